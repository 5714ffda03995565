// What both host functions do before their loops: checks that keep reads inside the tensors, and allocation.
#pragma once

#include "common/clip_strips.h"
#include "strip_merge/strip_merge.h"

namespace dfops::merge {

// The parts in the layout of the first one.
inline std::vector<Tensor> parts_in_layout(const std::vector<Tensor>& parts, int64_t size, int64_t axis) {
  STD_TORCH_CHECK(!parts.empty() && parts.size() <= kMostParts, "strip_merge takes 1 to 8 parts, got ", parts.size());
  STD_TORCH_CHECK(size >= 0, "size must not be negative, got ", size);
  check_clip_axis(parts[0], axis);
  const ClipLayout layout = clip_layout(parts[0]);
  std::vector<Tensor> result;
  for (const Tensor& part : parts) {
    STD_TORCH_CHECK(part.dim() == 5 && part.scalar_type() == parts[0].scalar_type() &&
                        with_length(sizes_of(part), axis, 0) == with_length(sizes_of(parts[0]), axis, 0),
                    "parts must agree in dtype and in every axis but the merged one");
    STD_TORCH_CHECK(size == 0 || part.size(axis) > 0, "a part is empty");
    result.push_back(as_clip(part, layout));
  }
  return result;
}

inline std::vector<Tensor> new_gradients(const Tensor& grad, const std::vector<int64_t>& lengths, int64_t axis) {
  STD_TORCH_CHECK(!lengths.empty() && lengths.size() <= kMostParts, "strip_merge takes 1 to 8 parts, got ",
                  lengths.size());
  check_clip_axis(grad, axis);
  std::vector<Tensor> result;
  for (const int64_t length : lengths) {
    STD_TORCH_CHECK(length >= 0 && (length > 0 || grad.size(axis) == 0), "a part is empty");
    const auto sizes = with_length(sizes_of(grad), axis, length);
    result.push_back(empty_clip(grad, sizes, clip_layout(grad), grad.scalar_type()));
  }
  return result;
}

template <class scalar_t>
Parts<const scalar_t> pointers_to(const std::vector<Tensor>& tensors, int64_t axis) {
  Parts<const scalar_t> parts{{}, int(tensors.size())};
  for (int p = 0; p < parts.count; ++p) parts.part[p] = {data<scalar_t>(tensors[p]), tensors[p].size(axis)};
  return parts;
}

template <class scalar_t>
Parts<scalar_t> mutable_pointers_to(const std::vector<Tensor>& tensors, int64_t axis) {
  Parts<scalar_t> parts{{}, int(tensors.size())};
  for (int p = 0; p < parts.count; ++p) parts.part[p] = {mutable_data<scalar_t>(tensors[p]), tensors[p].size(axis)};
  return parts;
}

}  // namespace dfops::merge
