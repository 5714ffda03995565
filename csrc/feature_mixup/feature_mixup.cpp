#include <torch/csrc/stable/library.h>

// index and lam have one value a row of x. The backward returns gradients for x and, where x is given, for lam.
STABLE_TORCH_LIBRARY_FRAGMENT(dfops, m) {
  m.def("feature_mixup(Tensor x, Tensor index, Tensor lam) -> Tensor");
  m.def("_feature_mixup_backward(Tensor grad, Tensor? x, Tensor index, Tensor lam, bool need_x) -> (Tensor, Tensor)");
}
