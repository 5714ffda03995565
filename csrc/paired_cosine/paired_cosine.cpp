#include <torch/csrc/stable/library.h>

// Beside `out` (G, H, W): the norms of the anchor and of the others (G, K + 1, H, W), and the cosines (G, K, H, W), all
// in the type of the arithmetic. The backward needs them.
STABLE_TORCH_LIBRARY_FRAGMENT(dfops, m) {
  m.def(
      "paired_cosine(Tensor anchor, Tensor others, float[] signs, float eps) -> (Tensor out, Tensor norms, Tensor "
      "cosines)");
  m.def(
      "_paired_cosine_backward(Tensor grad, Tensor anchor, Tensor others, Tensor norms, Tensor cosines, float[] signs, "
      "float eps, bool need_anchor, bool need_others) -> (Tensor, Tensor)");
}
