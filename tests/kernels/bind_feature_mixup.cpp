#include "arrays.h"
#include "feature_mixup/feature_mixup_blocks.h"
#include "feature_mixup/feature_mixup_loops.h"

namespace dfops::mixup {
namespace {

template <class T>
Array<T> blend(Array<T> own, Array<T> other, T lam) {
  Output<T> out({own.size()});
  blend_range(out.data(), own.data(), other.data(), lam, own.size());
  return out.take("out");
}

template <class T>
Array<T> gather(Array<T> grad, int64_t own, Array<int64_t> sources, Array<T> lam) {
  const int64_t row = grad.shape(1);
  Output<T> grad_x({row});
  gather_range(grad_x.data(), grad.data(), row, own, sources.data(), sources.size(), lam.data(), row);
  return grad_x.take("grad_x");
}

template <class T>
T lam_share(Array<T> grad, Array<T> own, Array<T> other) {
  return lam_range(grad.data(), own.data(), other.data(), grad.size());
}

constexpr int kThreads = 32;

template <class T, int kPack>
Array<T> block_forward(Array<T> x, Array<int64_t> index, Array<T> lam, unsigned seed) {
  const int64_t rows = x.shape(0), row = x.shape(1);
  Output<T> out(shape_of(x));
  launch_on_host(rows * ceil_div(row, kThreads * kPack), kThreads, 0, seed,
                 ForwardBody<T, kPack>{out.data(), x.data(), index.data(), lam.data(), rows, row});
  return out.take("out");
}

template <class T, int kPack>
py::tuple block_backward(Array<T> grad, Array<T> x, Array<int64_t> index, Array<T> lam, bool need_x, bool need_lam,
                         unsigned seed) {
  using Body = BackwardBody<T, kPack>;
  const int64_t rows = x.shape(0), row = x.shape(1), slices = ceil_div(row, kThreads * kPack);
  Output<T> grad_x(shape_of(x)), partial({slices, rows}), grad_lam({rows});
  launch_on_host(rows * slices, kThreads, Body::shared_bytes(kThreads), seed,
                 Body{need_x ? grad_x.data() : nullptr, need_lam ? partial.data() : nullptr, grad.data(),
                      need_lam ? x.data() : nullptr, index.data(), lam.data(), rows, row});
  if (need_lam) launch_on_host(2, kThreads, 0, seed, TotalBody<T>{grad_lam.data(), partial.data(), slices, rows});
  partial.take("partial");
  return py::make_tuple(grad_x.take("grad_x"), grad_lam.take("grad_lam"));
}

template <class T>
void bind(py::module_& m, const std::string& type) {
  m.def(("feature_mixup_blend_" + type).c_str(), &blend<T>);
  m.def(("feature_mixup_gather_" + type).c_str(), &gather<T>);
  m.def(("feature_mixup_lam_" + type).c_str(), &lam_share<T>);
  m.def(("feature_mixup_block_forward_" + type).c_str(), &block_forward<T, 1>);
  m.def(("feature_mixup_block_forward_packed_" + type).c_str(), &block_forward<T, 16 / sizeof(T)>);
  m.def(("feature_mixup_block_backward_" + type).c_str(), &block_backward<T, 1>);
  m.def(("feature_mixup_block_backward_packed_" + type).c_str(), &block_backward<T, 16 / sizeof(T)>);
}

}  // namespace
}  // namespace dfops::mixup

void bind_feature_mixup(pybind11::module_& m) {
  dfops::mixup::bind<float>(m, "float32");
  dfops::mixup::bind<double>(m, "float64");
}
