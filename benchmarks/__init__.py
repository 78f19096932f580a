"""What pytest-vbox costs, measured beside the raw API and VBoxManage: ``python -m benchmarks --help``."""
