"""The rig: VirtualBox in a private mount namespace, without its kernel module, and the guest image `tiny`."""
