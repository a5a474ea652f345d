"""What is changed about mail as it is taken in: addresses, copies, header fields."""
