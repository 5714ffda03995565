// What every host function needs of a tensor: dtype dispatch, the two layouts of a clip, allocation by strides.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Exception.h>
#include <torch/headeronly/util/Half.h>

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "common/portable.h"

namespace dfops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline ScalarType accumulate_type(ScalarType type) {
  return type == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// Calls f with a value whose type is the element type: `[&](auto zero) { using scalar_t = decltype(zero); ... }`.
template <class F>
void dispatch(const Tensor& tensor, const char* name, const F& f) {
  switch (tensor.scalar_type()) {
    case ScalarType::Double:
      return f(double(0));
    case ScalarType::Float:
      return f(float(0));
    case ScalarType::Half:
      return f(torch::headeronly::Half(0.0f));
    case ScalarType::BFloat16:
      return f(torch::headeronly::BFloat16(0.0f));
    default:
      STD_TORCH_CHECK(false, name, " takes float64, float32, bfloat16 or float16 tensors");
  }
}

template <class scalar_t>
const scalar_t* data(const Tensor& tensor) {
  return static_cast<const scalar_t*>(tensor.const_data_ptr());
}

template <class scalar_t>
scalar_t* mutable_data(const Tensor& tensor) {
  return static_cast<scalar_t*>(tensor.mutable_data_ptr());
}

inline std::vector<int64_t> sizes_of(const Tensor& tensor) {
  const auto sizes = tensor.sizes();
  return std::vector<int64_t>(sizes.begin(), sizes.end());
}

// `tensor` in the type the kernels accumulate `model` in; per-map scalars may be wider than the map they scale.
inline std::optional<Tensor> in_accumulate_type_of(const std::optional<Tensor>& tensor, const Tensor& model) {
  if (!tensor) return std::nullopt;
  const ScalarType type = accumulate_type(model.scalar_type());
  return tensor->scalar_type() == type ? *tensor : torch::stable::to(*tensor, type);
}

// Strides of axes of length 1 carry no information.
inline bool same_layout(const Tensor& a, const Tensor& b) {
  for (int64_t d = 0; d < a.dim(); ++d)
    if (a.size(d) > 1 && a.stride(d) != b.stride(d)) return false;
  return true;
}

// `tensor` itself where its memory is ordered as that of `model`, else a copy that is.
inline Tensor in_layout_of(const Tensor& tensor, const Tensor& model) {
  if (tensor.numel() == 0 || same_layout(tensor, model)) return tensor;
  Tensor copy = torch::stable::empty_like(model);
  return torch::stable::copy_(copy, tensor);
}

inline Tensor empty_strided(const Tensor& model, const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides,
                            ScalarType type) {
  std::array<StableIValue, 6> stack{torch::stable::detail::from(torch::headeronly::IntHeaderOnlyArrayRef(sizes)),
                                    torch::stable::detail::from(torch::headeronly::IntHeaderOnlyArrayRef(strides)),
                                    torch::stable::detail::from(std::optional<ScalarType>(type)),
                                    torch::stable::detail::from(std::optional<torch::headeronly::Layout>()),
                                    torch::stable::detail::from(std::optional<torch::stable::Device>(model.device())),
                                    torch::stable::detail::from(std::optional<bool>())};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::empty_strided", "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

// A clip (B, T, C, H, W) is contiguous, or channels-last: the memory of a channels-last (B*T, C, H, W).
enum class ClipLayout { kContiguous, kChannelsLast };

inline std::vector<int64_t> clip_strides(const std::vector<int64_t>& sizes, ClipLayout layout) {
  const int64_t t = sizes[1], c = sizes[2], h = sizes[3], w = sizes[4], frame = c * h * w;
  if (layout == ClipLayout::kChannelsLast) return {t * frame, frame, 1, w * c, c};
  return {t * frame, frame, h * w, w, 1};
}

inline bool has_strides(const Tensor& tensor, const std::vector<int64_t>& strides) {
  for (int64_t d = 0; d < tensor.dim(); ++d)
    if (tensor.size(d) > 1 && tensor.stride(d) != strides[d]) return false;
  return true;
}

// Contiguous wins where both fit; anything that is neither is copied to contiguous by `as_clip`.
inline ClipLayout clip_layout(const Tensor& clip) {
  const auto sizes = sizes_of(clip);
  if (has_strides(clip, clip_strides(sizes, ClipLayout::kContiguous))) return ClipLayout::kContiguous;
  if (has_strides(clip, clip_strides(sizes, ClipLayout::kChannelsLast))) return ClipLayout::kChannelsLast;
  return ClipLayout::kContiguous;
}

inline Tensor empty_clip(const Tensor& model, const std::vector<int64_t>& sizes, ClipLayout layout, ScalarType type) {
  return empty_strided(model, sizes, clip_strides(sizes, layout), type);
}

// `clip` itself where it has `layout`, else a copy that has.
inline Tensor as_clip(const Tensor& clip, ClipLayout layout) {
  if (clip.numel() == 0 || has_strides(clip, clip_strides(sizes_of(clip), layout))) return clip;
  Tensor copy = empty_clip(clip, sizes_of(clip), layout, clip.scalar_type());
  return torch::stable::copy_(copy, clip);
}

}  // namespace dfops
