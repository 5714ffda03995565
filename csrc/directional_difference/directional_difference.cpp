#include <torch/csrc/stable/library.h>

// axis is the dimension of the clip: 3 or 4. weight is (C, M).
STABLE_TORCH_LIBRARY_FRAGMENT(dfops, m) {
  m.def("directional_difference(Tensor x, Tensor weight, int axis) -> Tensor");
  m.def(
      "_directional_difference_backward(Tensor grad, Tensor x, Tensor weight, int axis, bool need_x, bool need_weight) "
      "-> (Tensor, Tensor)");
}
