"""The frame of every command: settings, command line, run folder, resume, plots, tables."""
