"""Networks that no kept library holds, under the names of their published checkpoints."""
