// What every host function needs of a tensor: dtype dispatch, the two layouts of a clip, allocation by strides.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Exception.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "common/portable.h"

namespace dfops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline bool is_floating(ScalarType type) {
  return type == ScalarType::Double || type == ScalarType::Float || type == ScalarType::BFloat16 ||
         type == ScalarType::Half;
}

// Calls f with a value of the element type: `[&](auto zero) { using scalar_t = decltype(zero); ... }`.
template <class F>
void dispatch(ScalarType type, const F& f) {
  switch (type) {
    case ScalarType::Double:
      return f(double(0));
    case ScalarType::Float:
      return f(float(0));
    case ScalarType::Half:
      return f(torch::headeronly::Half(0.0f));
    case ScalarType::BFloat16:
      return f(torch::headeronly::BFloat16(0.0f));
    default:
      STD_TORCH_CHECK(false, "no kernel for the dtype ", type);
  }
}

template <class F>
void dispatch(const Tensor& tensor, const F& f) {
  dispatch(tensor.scalar_type(), f);
}

// acc_type of an element type, for allocation.
inline ScalarType accumulate_type(ScalarType type) {
  ScalarType result = type;
  dispatch(type, [&](auto zero) {
    using acc_t = acc_type<decltype(zero)>;
    static_assert(std::is_same_v<acc_t, float> || std::is_same_v<acc_t, double>);
    result = std::is_same_v<acc_t, double> ? ScalarType::Double : ScalarType::Float;
  });
  return result;
}

template <class scalar_t>
const scalar_t* data(const Tensor& tensor) {
  return static_cast<const scalar_t*>(tensor.const_data_ptr());
}

template <class scalar_t>
scalar_t* mutable_data(const Tensor& tensor) {
  return static_cast<scalar_t*>(tensor.mutable_data_ptr());
}

// Whether 16 bytes at a time can be moved from or to the first of a tensor's elements, as in any fresh allocation.
inline bool aligned(const Tensor& tensor) { return (reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) & 15) == 0; }

inline bool aligned(const std::vector<Tensor>& tensors) {
  return std::all_of(tensors.begin(), tensors.end(), [](const Tensor& tensor) { return aligned(tensor); });
}

inline std::vector<int64_t> sizes_of(const Tensor& tensor) {
  const auto sizes = tensor.sizes();
  return std::vector<int64_t>(sizes.begin(), sizes.end());
}

inline std::vector<int64_t> with_size(std::vector<int64_t> sizes, int64_t axis, int64_t size) {
  sizes[axis] = size;
  return sizes;
}

// ---- Checks -------------------------------------------------------------------------------------------------------
// A call from Python may hand over anything the schema allows, and loops read what sizes say. Host functions check all
// of their arguments before anything else: what is thrown inside a parallel loop loses its text.

inline std::string in_words(const std::vector<int64_t>& sizes) {
  std::string words = "(";
  for (size_t d = 0; d < sizes.size(); ++d) words += (d > 0 ? ", " : "") + std::to_string(sizes[d]);
  return words + (sizes.size() == 1 ? ",)" : ")");
}

inline std::string device_in_words(const Tensor& tensor) {
  if (tensor.is_cpu()) return "cpu";
  if (tensor.is_cuda()) return "cuda:" + std::to_string(tensor.get_device_index());
  return "device type " + std::to_string(int(tensor.device().type()));
}

inline void check_floating(const std::string& name, const Tensor& tensor) {
  STD_TORCH_CHECK(is_floating(tensor.scalar_type()), name, " must be float64, float32, bfloat16 or float16, got ",
                  tensor.scalar_type());
}

// `axes` is their names, "(B, T, C, H, W)".
inline void check_axes(const std::string& name, const Tensor& tensor, const char* axes) {
  const std::string names(axes);
  STD_TORCH_CHECK(tensor.dim() == 1 + std::count(names.begin(), names.end(), ' '), name, " must be ", names,
                  ", got shape ", in_words(sizes_of(tensor)));
}

inline void check_sizes(const std::string& name, const Tensor& tensor, const char* axes,
                        const std::vector<int64_t>& sizes) {
  STD_TORCH_CHECK(sizes_of(tensor) == sizes, name, " must be ", axes, " = ", in_words(sizes), ", got ",
                  in_words(sizes_of(tensor)));
}

inline void check_device(const std::string& name, const Tensor& tensor, const char* model_name, const Tensor& model) {
  STD_TORCH_CHECK(tensor.device() == model.device(), name, " must be on the device of ", model_name, ", ",
                  device_in_words(model), ", got ", device_in_words(tensor));
}

// The device of `model`, and the dtype of its sums.
inline void check_accumulated(const std::string& name, const Tensor& tensor, const char* model_name,
                              const Tensor& model) {
  check_device(name, tensor, model_name, model);
  const ScalarType type = accumulate_type(model.scalar_type());
  STD_TORCH_CHECK(tensor.scalar_type() == type, name, " must be ", type, ", got ", tensor.scalar_type());
}

// Dtype and device of `model`.
inline void check_kind(const std::string& name, const Tensor& tensor, const char* model_name, const Tensor& model) {
  STD_TORCH_CHECK(tensor.scalar_type() == model.scalar_type(), name, " must have the dtype of ", model_name, ", ",
                  model.scalar_type(), ", got ", tensor.scalar_type());
  check_device(name, tensor, model_name, model);
}

// Shape, dtype and device of `model`.
inline void check_like(const std::string& name, const Tensor& tensor, const char* model_name, const Tensor& model) {
  STD_TORCH_CHECK(sizes_of(tensor) == sizes_of(model), name, " must have the shape of ", model_name, ", ",
                  in_words(sizes_of(model)), ", got ", in_words(sizes_of(tensor)));
  check_kind(name, tensor, model_name, model);
}

// Numbers that are brought to the type of the arithmetic: any floating-point dtype, the device of `model`.
inline void check_numbers(const std::string& name, const Tensor& tensor, const char* model_name, const Tensor& model) {
  check_floating(name, tensor);
  check_device(name, tensor, model_name, model);
}

inline void check_index(const std::string& name, const Tensor& tensor, const char* model_name, const Tensor& model) {
  STD_TORCH_CHECK(tensor.scalar_type() == ScalarType::Long, name, " must be int64, got ", tensor.scalar_type());
  check_device(name, tensor, model_name, model);
}

inline void check_clip(const std::string& name, const Tensor& clip) {
  check_floating(name, clip);
  check_axes(name, clip, "(B, T, C, H, W)");
}

// ---- Layouts and allocation ---------------------------------------------------------------------------------------

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

// Stands for a gradient that is not needed.
inline Tensor nothing_like(const Tensor& model) { return torch::stable::new_empty(model, {0}); }

// `clip` itself where it has `layout`, else a copy that has.
inline Tensor as_clip(const Tensor& clip, ClipLayout layout) {
  if (clip.numel() == 0 || has_strides(clip, clip_strides(sizes_of(clip), layout))) return clip;
  Tensor copy = empty_clip(clip, sizes_of(clip), layout, clip.scalar_type());
  return torch::stable::copy_(copy, clip);
}

}  // namespace dfops
