"""What the measurements need of the machine: cores, child processes, ``/proc``, the disk."""
