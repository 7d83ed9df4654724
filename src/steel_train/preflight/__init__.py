"""The pre-flight: what a run would cost and learn, said before it starts."""
