#include <torch/csrc/stable/library.h>

// Beside `out`: variance (B, H, W) and threshold (B,), in the type of the arithmetic, and positions (B, num_keep) of
// the survivors where the rule is "le" (strict = False); (B, 0) under "lt".
//
// _interframe_difference_sparse_backward returns the gradients of the slots, (B, T, C, num_keep) each: grad is that of
// values (B, T, num_keep), query and key are the vectors at the positions (what stands in unused slots is ignored).
STABLE_TORCH_LIBRARY_FRAGMENT(dfops, m) {
  m.def(
      "interframe_difference(Tensor query, Tensor key, SymInt num_keep, bool strict, bool normalize, float eps, float "
      "min_variance) -> (Tensor out, Tensor variance, Tensor threshold, Tensor positions)");
  m.def(
      "interframe_difference_sparse(Tensor query, Tensor key, SymInt num_keep, bool normalize, float eps, float "
      "min_variance) -> (Tensor values, Tensor positions)");
  m.def(
      "_interframe_difference_backward(Tensor grad, Tensor query, Tensor key, Tensor variance, Tensor threshold, bool "
      "normalize, float eps) -> (Tensor, Tensor)");
  m.def(
      "_interframe_difference_sparse_backward(Tensor grad, Tensor query, Tensor key, Tensor positions, bool normalize, "
      "float eps) -> (Tensor, Tensor)");
}
