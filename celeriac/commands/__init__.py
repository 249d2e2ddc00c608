"""One module for each verb; its command is named `command`."""
