"""What can go wrong in a specialist."""


class SpecialistError(Exception):
    """A specialist, its card, its weights or an image it was given is not usable."""
