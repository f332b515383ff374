"""What every room may use: errors, files, the console, the machine, images."""
