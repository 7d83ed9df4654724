"""Statistics: paired differences, difference in differences, power, detection. Arrays in, numbers out."""
