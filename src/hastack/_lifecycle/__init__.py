"""Behind `hastack.lifecycle`: pure ordering and phases, and the shell that carries them out."""
