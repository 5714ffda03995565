#include <torch/csrc/stable/library.h>

// axis is the dimension of the clip: 1, 3 or 4. weight is (D, S, C, M), one filter for each direction, scale and
// channel; absent it stands for one direction that is not filtered. The result holds D * S tensors, directions first.
STABLE_TORCH_LIBRARY_FRAGMENT(dfops, m) {
  m.def("strip_pool(Tensor x, Tensor? weight, int axis, int[] scales) -> Tensor[]");
  m.def(
      "_strip_pool_backward(Tensor[] grads, Tensor x, Tensor? weight, int axis, int[] scales, bool need_x, bool "
      "need_weight) -> (Tensor, Tensor)");
}
