"""The maths: no files, no environment, no devices, no logging."""
