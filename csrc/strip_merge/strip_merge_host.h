// What both host functions do before their loops: checks that keep reads inside the tensors, and allocation.
#pragma once

#include <limits>

#include "common/clip_strips.h"
#include "strip_merge/strip_merge.h"

namespace dfops::merge {

// Products of a position and a size have to fit into 64 bits.
inline void check_length(const char* name, int64_t length) {
  STD_TORCH_CHECK(length >= 0 && length <= std::numeric_limits<int32_t>::max(), name,
                  " must not be negative, nor above 2^31 - 1, got ", length);
}

inline void check_count(const char* name, size_t count) {
  STD_TORCH_CHECK(count > 0 && count <= kMostParts, name, " must hold 1 to ", kMostParts, " entries, got ", count);
}

// The parts are brought to the layout of the first one.
struct ForwardCall {
  ClipLayout layout;
  std::vector<int64_t> sizes;
  std::vector<Tensor> parts;
  Tensor out;

  ForwardCall(const std::vector<Tensor>& all, int64_t size, int64_t axis)
      : layout(checked(all, size, axis)),
        sizes(with_size(sizes_of(all[0]), axis, size)),
        out(empty_clip(all[0], sizes, layout, all[0].scalar_type())) {
    for (const Tensor& part : all) parts.push_back(as_clip(part, layout));
  }

 private:
  static ClipLayout checked(const std::vector<Tensor>& all, int64_t size, int64_t axis) {
    check_count("parts", all.size());
    check_length("size", size);
    check_clip_axis("parts[0]", all[0], axis);
    for (size_t i = 0; i < all.size(); ++i) {
      const std::string name = "parts[" + std::to_string(i) + "]";
      check_axes(name, all[i], "(B, T, C, H, W)");
      check_sizes(name, all[i], "(B, T, C, H, W) and, but for the merged axis,",
                  with_size(sizes_of(all[0]), axis, all[i].size(axis)));
      check_kind(name, all[i], "parts[0]", all[0]);
      check_length("the length of a part", all[i].size(axis));
      STD_TORCH_CHECK(size == 0 || all[i].size(axis) > 0, name, " must not be empty along the merged axis");
    }
    return clip_layout(all[0]);
  }
};

struct BackwardCall {
  ClipLayout layout;
  Tensor grad;
  std::vector<Tensor> grads;

  BackwardCall(const Tensor& all, const std::vector<int64_t>& lengths, int64_t axis)
      : layout(checked(all, lengths, axis)), grad(as_clip(all, layout)) {
    for (const int64_t length : lengths)
      grads.push_back(empty_clip(all, with_size(sizes_of(all), axis, length), layout, all.scalar_type()));
  }

 private:
  static ClipLayout checked(const Tensor& grad, const std::vector<int64_t>& lengths, int64_t axis) {
    check_clip_axis("grad", grad, axis);
    check_count("lengths", lengths.size());
    check_length("the length of grad", grad.size(axis));
    for (const int64_t length : lengths) {
      check_length("lengths", length);
      STD_TORCH_CHECK(length > 0 || grad.size(axis) == 0, "lengths must be positive, got ", length);
    }
    return clip_layout(grad);
  }
};

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
