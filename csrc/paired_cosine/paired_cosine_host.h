// What both host functions do before their loops: checks that keep reads inside the tensors, layouts, and allocation.
#pragma once

#include <tuple>

#include "common/tensor.h"
#include "paired_cosine/paired_cosine.h"

namespace dfops::cosine {

// Strides of maps, the last three axes, in a layout; the axes before them are dense.
inline std::vector<int64_t> map_strides(const std::vector<int64_t>& sizes, ClipLayout layout) {
  const size_t n = sizes.size();
  const int64_t c = sizes[n - 3], h = sizes[n - 2], w = sizes[n - 1];
  std::vector<int64_t> strides(n);
  const bool channels_last = layout == ClipLayout::kChannelsLast;
  strides[n - 3] = channels_last ? 1 : h * w;
  strides[n - 2] = channels_last ? w * c : w;
  strides[n - 1] = channels_last ? c : 1;
  for (int64_t d = int64_t(n) - 4, step = c * h * w; d >= 0; step *= sizes[d--]) strides[d] = step;
  return strides;
}

inline bool has_layout(const Tensor& maps, ClipLayout layout) {
  const auto strides = map_strides(sizes_of(maps), layout);
  for (int64_t d = maps.dim() - 3; d < maps.dim(); ++d)
    if (maps.size(d) > 1 && maps.stride(d) != strides[d]) return false;
  return true;
}

// Contiguous wins where both fit, and is that of the copy where neither does.
inline ClipLayout map_layout(const Tensor& maps) {
  return !has_layout(maps, ClipLayout::kContiguous) && has_layout(maps, ClipLayout::kChannelsLast)
             ? ClipLayout::kChannelsLast
             : ClipLayout::kContiguous;
}

inline Tensor empty_maps(const Tensor& model, ClipLayout layout) {
  const auto sizes = sizes_of(model);
  return empty_strided(model, sizes, map_strides(sizes, layout), model.scalar_type());
}

// `maps` itself where its last three axes have `layout`, else a copy.
inline Tensor as_maps(const Tensor& maps, ClipLayout layout) {
  if (maps.numel() == 0 || has_layout(maps, layout)) return maps;
  Tensor copy = empty_maps(maps, layout);
  return torch::stable::copy_(copy, maps);
}

// Groups and maps begin at the strides of the leading axes.
template <class scalar_t>
Maps<const scalar_t> maps_of(const Tensor& tensor) {
  return {data<scalar_t>(tensor), tensor.stride(0), tensor.dim() == 5 ? tensor.stride(1) : 0};
}
template <class scalar_t>
Maps<scalar_t> mutable_maps_of(const std::optional<Tensor>& tensor) {
  if (!tensor) return {nullptr, 0, 0};
  return {mutable_data<scalar_t>(*tensor), tensor->stride(0), tensor->dim() == 5 ? tensor->stride(1) : 0};
}

// Both inputs in one layout, that of `others`.
struct Inputs {
  ClipLayout layout;
  Tensor anchor, others;
  Sizes sizes;

  Inputs(const Tensor& a, const Tensor& b, const std::vector<double>& signs)
      : layout(checked_layout(a, b, signs)), anchor(as_maps(a, layout)), others(as_maps(b, layout)) {
    const int64_t positions = b.size(3) * b.size(4);
    // a single position has its channels side by side in either layout
    sizes = {b.size(0), b.size(1), b.size(2), positions, layout == ClipLayout::kChannelsLast || positions == 1};
  }
  bool empty() const { return sizes.groups * sizes.positions == 0; }

 private:
  static ClipLayout checked_layout(const Tensor& anchor, const Tensor& others, const std::vector<double>& signs) {
    check_floating("others", others);
    check_axes("others", others, "(G, K, C, H, W)");
    auto sizes = sizes_of(others);
    sizes.erase(sizes.begin() + 1);
    check_sizes("anchor", anchor, "(G, C, H, W)", sizes);
    check_kind("anchor", anchor, "others", others);
    STD_TORCH_CHECK(others.size(1) <= kMostOthers, "others must hold ", kMostOthers, " maps a group at most, got ",
                    others.size(1));
    STD_TORCH_CHECK(int64_t(signs.size()) == others.size(1), "signs must hold one number for each of the ",
                    others.size(1), " others, got ", signs.size());
    return map_layout(others);
  }
};

inline std::tuple<Tensor, Tensor, Tensor> new_results(const Tensor& others) {
  const int64_t g = others.size(0), k = others.size(1), h = others.size(3), w = others.size(4);
  const ScalarType type = accumulate_type(others.scalar_type());
  return {torch::stable::new_empty(others, {g, h, w}, type), torch::stable::new_empty(others, {g, k + 1, h, w}, type),
          torch::stable::new_empty(others, {g, k, h, w}, type)};
}

template <class acc_t>
Results<acc_t> results_of(const std::tuple<Tensor, Tensor, Tensor>& tensors) {
  return {mutable_data<acc_t>(std::get<0>(tensors)), mutable_data<acc_t>(std::get<1>(tensors)),
          mutable_data<acc_t>(std::get<2>(tensors))};
}

// The gradients in the layout of `others`, and what the forward kept.
struct BackwardCall : Inputs {
  Tensor grad, norms, cosines;
  std::optional<Tensor> grad_anchor, grad_others;

  BackwardCall(const Tensor& all, const Tensor& a, const Tensor& b, const Tensor& kept_norms,
               const Tensor& kept_cosines, const std::vector<double>& signs, bool need_anchor, bool need_others)
      : Inputs(a, b, signs), grad(all), norms(kept_norms), cosines(kept_cosines) {
    const int64_t g = b.size(0), k = b.size(1), h = b.size(3), w = b.size(4);
    const auto prepare = [&](const char* name, Tensor& tensor, const char* axes, const std::vector<int64_t>& shape) {
      check_sizes(name, tensor, axes, shape);
      check_accumulated(name, tensor, "others", b);
      tensor = torch::stable::contiguous(tensor);
    };
    prepare("grad", grad, "(G, H, W)", {g, h, w});
    prepare("norms", norms, "(G, K + 1, H, W)", {g, k + 1, h, w});
    prepare("cosines", cosines, "(G, K, H, W)", {g, k, h, w});
    if (need_anchor) grad_anchor = empty_maps(a, layout);
    if (need_others) grad_others = empty_maps(b, layout);
  }

  // Each in the layout of its own input, or empty where it is not needed.
  std::tuple<Tensor, Tensor> results(const Tensor& a, const Tensor& b) const {
    return {grad_anchor ? as_maps(*grad_anchor, map_layout(a)) : nothing_like(a),
            grad_others ? as_maps(*grad_others, map_layout(b)) : nothing_like(b)};
  }
};

}  // namespace dfops::cosine
