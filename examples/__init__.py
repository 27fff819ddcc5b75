"""Examples of tasks on verl alone."""
