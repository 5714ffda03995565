#include <torch/csrc/stable/library.h>

// axis is the dimension of the clip: 1, 3 or 4.
STABLE_TORCH_LIBRARY_FRAGMENT(dfops, m) {
  m.def("strip_merge(Tensor[] parts, SymInt size, int axis) -> Tensor");
  m.def("_strip_merge_backward(Tensor grad, SymInt[] lengths, int axis) -> Tensor[]");
}
