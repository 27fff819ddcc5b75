"""From evaluated questions to one table, one plot and one file."""
