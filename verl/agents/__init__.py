"""What agents of any task share: the loop that runs them, and an episode's tokens and room."""
