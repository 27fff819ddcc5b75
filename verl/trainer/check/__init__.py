"""What a run needs, against what the machine has, before anything is paid for."""
