#include <torch/csrc/stable/library.h>

// Maps come as clips (B, T, C, H, W), angle has one value a map; mode and padding number the names of grid_sample in
// order. The backward returns gradients for the maps, in the layout of grad, and, where x is given, for the angle.
STABLE_TORCH_LIBRARY_FRAGMENT(dfops, m) {
  m.def("latent_rotate(Tensor x, Tensor angle, int mode, int padding) -> Tensor");
  m.def(
      "_latent_rotate_backward(Tensor grad, Tensor? x, Tensor angle, int mode, int padding, bool need_x) -> (Tensor, "
      "Tensor)");
}
