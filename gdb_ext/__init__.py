"""What gdb loads: `source` the faultkit.py beside this file."""
