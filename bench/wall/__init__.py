"""The core's side of the wall: guest processes, the protocol they speak, and the artifacts they make and load."""
