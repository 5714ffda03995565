#include <torch/csrc/stable/library.h>

// The factor of the gate is scale * gamma[0], or scale where gamma is absent.
STABLE_TORCH_LIBRARY_FRAGMENT(dfops, m) {
  m.def("inconsistency_gate(Tensor x, Tensor vertical, Tensor horizontal, Tensor? gamma, float scale) -> Tensor");
  m.def(
      "_inconsistency_gate_backward(Tensor grad, Tensor x, Tensor vertical, Tensor horizontal, Tensor? gamma, float "
      "scale) -> (Tensor, Tensor, Tensor, Tensor)");
}
