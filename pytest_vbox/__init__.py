"""pytest fixtures that are real, ephemeral VirtualBox machines."""
