#include <torch/csrc/stable/library.h>

// axis is the dimension of the clip: 1, 3 or 4.
STABLE_TORCH_LIBRARY_FRAGMENT(dfops, m) {
  m.def("strip_merge(Tensor[] parts, int size, int axis) -> Tensor");
  m.def("_strip_merge_backward(Tensor grad, int[] lengths, int axis) -> Tensor[]");
}
