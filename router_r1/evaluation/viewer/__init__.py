"""What the pages that show trajectories say of one: its blocks, its calls, its reward explained."""
