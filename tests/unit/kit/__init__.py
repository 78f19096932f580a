"""What the unit tests of several rooms share: VirtualBox's web service without VirtualBox."""
