#include <pybind11/stl.h>

#include "arrays.h"
#include "latent_rotate/latent_rotate_blocks.h"
#include "latent_rotate/latent_rotate_loops.h"

namespace dfops::rotate {
namespace {

Maps maps_of(const std::vector<int64_t>& shape, bool channels_last) {
  return {shape[0], shape[1], shape[2], shape[3], channels_last};
}

// The units in two ranges, cut at `cut` of them; `what` other than kSlopes.
template <class T>
Array<T> apply(Array<T> in, Array<T> angle, std::vector<int64_t> shape, bool channels_last, int64_t mode,
               int64_t padding, int64_t what, double cut) {
  const Maps maps = maps_of(shape, channels_last);
  Output<T> out({in.size()});
  const int64_t units = maps.count * groups(maps), middle = int64_t(cut * units);
  for (const auto& [begin, end] : {std::pair(int64_t(0), middle), std::pair(middle, units)})
    apply_range(out.data(), in.data(), angle.data(), maps, Mode(mode), Padding(padding), What(what), begin, end);
  return out.take("out");
}

template <class T>
Array<T> slopes(Array<T> grad, Array<T> x, Array<T> angle, std::vector<int64_t> shape, bool channels_last, int64_t mode,
                int64_t padding, double cut) {
  const Maps maps = maps_of(shape, channels_last);
  const int64_t units = maps.count * groups(maps), middle = int64_t(cut * units);
  Output<T> partial({maps.count, groups(maps)});
  for (const auto& [begin, end] : {std::pair(int64_t(0), middle), std::pair(middle, units)})
    slope_range(partial.data(), grad.data(), x.data(), angle.data(), maps, Mode(mode), Padding(padding), begin, end);
  return partial.take("partial");
}

constexpr int kThreads = 32;

template <class T, int kPack, What kWhat>
void run_body(T* out, T* grad_angle, const T* in, const T* grad, const T* angle, const Maps& maps, int64_t mode,
              int64_t padding, int64_t tile, unsigned seed) {
  const Plan plan(maps, tile, 3 * kPack);
  Output<T> partial({plan.slices(), maps.count});
  launch_on_host(plan.blocks(), kThreads, Body<T, kPack, kWhat>::shared_bytes(plan), seed,
                 Body<T, kPack, kWhat>{out, partial.data(), in, grad, angle, Mode(mode), Padding(padding), plan});
  if (kWhat == What::kSlopes)
    launch_on_host(2, kThreads, 0, seed, TotalBody<T>{grad_angle, partial.data(), plan.slices(), maps.count});
  partial.take("partial");
}

template <class T, What kWhat>
void run_packed(T* out, T* grad_angle, const T* in, const T* grad, const T* angle, const Maps& maps, int64_t mode,
                int64_t padding, int64_t tile, unsigned seed) {
  constexpr int kPack = 16 / sizeof(T);
  const bool packed = maps.channels_last && maps.channels % kPack == 0;
  const auto run = packed ? run_body<T, kPack, kWhat> : run_body<T, 1, kWhat>;
  run(out, grad_angle, in, grad, angle, maps, mode, padding, tile, seed);
}

template <class T>
Array<T> block_apply(Array<T> in, Array<T> angle, std::vector<int64_t> shape, bool channels_last, int64_t mode,
                     int64_t padding, int64_t what, int64_t tile, unsigned seed) {
  Output<T> out({in.size()});
  const auto run = What(what) == What::kReaders ? run_packed<T, What::kReaders> : run_packed<T, What::kWeights>;
  run(out.data(), nullptr, in.data(), nullptr, angle.data(), maps_of(shape, channels_last), mode, padding, tile, seed);
  return out.take("out");
}

template <class T>
Array<T> block_slopes(Array<T> grad, Array<T> x, Array<T> angle, std::vector<int64_t> shape, bool channels_last,
                      int64_t mode, int64_t padding, int64_t tile, unsigned seed) {
  Output<T> grad_angle({shape[0]});
  run_packed<T, What::kSlopes>(nullptr, grad_angle.data(), x.data(), grad.data(), angle.data(),
                               maps_of(shape, channels_last), mode, padding, tile, seed);
  return grad_angle.take("grad_angle");
}

template <class T>
void bind(py::module_& m, const std::string& type) {
  m.def(("latent_rotate_apply_" + type).c_str(), &apply<T>);
  m.def(("latent_rotate_slopes_" + type).c_str(), &slopes<T>);
  m.def(("latent_rotate_block_apply_" + type).c_str(), &block_apply<T>);
  m.def(("latent_rotate_block_slopes_" + type).c_str(), &block_slopes<T>);
}

}  // namespace
}  // namespace dfops::rotate

void bind_latent_rotate(pybind11::module_& m) {
  dfops::rotate::bind<float>(m, "float32");
  dfops::rotate::bind<double>(m, "float64");
}
