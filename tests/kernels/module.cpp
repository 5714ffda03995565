// The torch-free kernel headers as a module for NumPy; compiled by the test session, never shipped.
#include <pybind11/pybind11.h>

void bind_directional_difference(pybind11::module_& m);
void bind_feature_mixup(pybind11::module_& m);
void bind_inconsistency_gate(pybind11::module_& m);
void bind_interframe_difference(pybind11::module_& m);
void bind_latent_augment(pybind11::module_& m);
void bind_paired_cosine(pybind11::module_& m);
void bind_latent_rotate(pybind11::module_& m);
void bind_strip_merge(pybind11::module_& m);
void bind_strip_pool(pybind11::module_& m);

PYBIND11_MODULE(dfops_kernels, m) {
  bind_directional_difference(m);
  bind_feature_mixup(m);
  bind_inconsistency_gate(m);
  bind_interframe_difference(m);
  bind_latent_augment(m);
  bind_paired_cosine(m);
  bind_latent_rotate(m);
  bind_strip_merge(m);
  bind_strip_pool(m);
}
