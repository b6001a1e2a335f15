"""What pages and the API show, built in one place: values with their labels, meters, choices and words."""
