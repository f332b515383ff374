"""From images and masks to batches. Import the modules by name: some of them do not need torch."""
