#include <torch/csrc/stable/library.h>

// z and noise are (G, D, C, H, W), choice, angle and perm (G, D), lam and sigma (G, D), or (G, D, C) with per_channel,
// mix_lam (G,) or (G, D). The backward serves both: perm and mix_lam are present for latent_augment_mix.
STABLE_TORCH_LIBRARY_FRAGMENT(dfops, m) {
  m.def(
      "latent_augment(Tensor z, Tensor choice, Tensor lam, Tensor? sigma, Tensor? noise, Tensor? angle, Tensor? "
      "centroid, bool per_channel, bool detach_statistics) -> (Tensor, Tensor, Tensor)");
  m.def(
      "latent_augment_mix(Tensor z, Tensor perm, Tensor mix_lam, Tensor choice, Tensor lam, Tensor? sigma, Tensor? "
      "noise, Tensor? angle, Tensor? centroid, bool per_channel, bool detach_statistics) -> (Tensor, Tensor, Tensor)");
  m.def(
      "_latent_augment_backward(Tensor grad, Tensor choice, Tensor lam, Tensor? angle, Tensor hard_index, Tensor? "
      "perm, Tensor? mix_lam, bool per_channel, bool given_centroid, bool detach_statistics, bool channels_last) -> "
      "Tensor");
}
