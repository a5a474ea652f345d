"""Filtering: what the filters say of a message on its way in, under the policies of its recipients."""
