// What both host functions do before their loops: checks that keep reads inside the tensors, and allocation.
#pragma once

#include "common/tensor.h"
#include "latent_augment/latent_augment.h"

namespace dfops::augment {

using OptionalTensor = std::optional<Tensor>;

// Strides of (N, C, H, W) in a layout.
inline std::vector<int64_t> map_strides(int64_t channels, int64_t height, int64_t width, ClipLayout layout) {
  const auto strides = clip_strides({1, 1, channels, height, width}, layout);
  return {strides.begin() + 1, strides.end()};
}

// `tensor` itself where it has these strides, else a copy that has.
inline Tensor with_strides(const Tensor& tensor, const std::vector<int64_t>& strides) {
  if (tensor.numel() == 0 || has_strides(tensor, strides)) return tensor;
  Tensor copy = empty_strided(tensor, sizes_of(tensor), strides, tensor.scalar_type());
  return torch::stable::copy_(copy, tensor);
}

// Draws as the kernels read them: contiguous, scalars in the type that accumulates.
struct DrawTensors {
  Tensor choice, lam;
  OptionalTensor sigma, angle, perm, mix_lam;
  bool has_noise, given_centroid;

  DrawTensors(const Tensor& model, const Tensor& all_choices, const Tensor& all_lam, const OptionalTensor& all_sigma,
              const OptionalTensor& all_angles, const OptionalTensor& all_perm, const OptionalTensor& all_mix_lam,
              bool noise, bool centroid)
      : choice(torch::stable::contiguous(all_choices)),
        lam(*prepared(all_lam, model)),
        sigma(prepared(all_sigma, model)),
        angle(prepared(all_angles, model)),
        mix_lam(prepared(all_mix_lam, model)),
        has_noise(noise),
        given_centroid(centroid) {
    if (all_perm) perm = torch::stable::contiguous(*all_perm);
  }

  template <class acc_t>
  Draws<acc_t> pointers() const {
    return {data<int64_t>(choice),
            pointer<acc_t>(lam),
            pointer<acc_t>(sigma),
            pointer<acc_t>(angle),
            pointer<int64_t>(perm),
            pointer<acc_t>(mix_lam),
            has_noise,
            given_centroid,
            mix_lam && mix_lam->dim() == 2};
  }
  int64_t halves() const { return perm ? 2 : 1; }

 private:
  static OptionalTensor prepared(const OptionalTensor& tensor, const Tensor& model) {
    const OptionalTensor wide = in_accumulate_type_of(tensor, model);
    return wide ? OptionalTensor(torch::stable::contiguous(*wide)) : std::nullopt;
  }
  template <class T>
  static const T* pointer(const OptionalTensor& tensor) {
    return tensor ? data<T>(*tensor) : nullptr;
  }
};

// `model` is z, or the gradient of the result.
inline void check_draws(const Sizes& s, const char* model_name, const Tensor& model, const Tensor& choice,
                        const Tensor& lam, const OptionalTensor& sigma, const OptionalTensor& angle,
                        const OptionalTensor& perm, const OptionalTensor& mix_lam) {
  const std::vector<int64_t> maps{s.groups, s.domains}, channels{s.groups, s.domains, s.channels};
  const auto check_ids = [&](const char* name, const Tensor& ids) {
    check_index(name, ids, model_name, model);
    check_sizes(name, ids, "(G, D)", maps);
  };
  const auto check_scalars = [&](const char* name, const Tensor& scalars) {
    check_numbers(name, scalars, model_name, model);
    check_sizes(name, scalars, s.per_channel ? "(G, D, C)" : "(G, D)", s.per_channel ? channels : maps);
  };
  check_ids("choice", choice);
  check_scalars("lam", lam);
  if (sigma) check_scalars("sigma", *sigma);
  if (angle) {
    check_numbers("angle", *angle, model_name, model);
    check_sizes("angle", *angle, "(G, D)", maps);
  }
  STD_TORCH_CHECK(perm.has_value() == mix_lam.has_value(), "perm and mix_lam must be given together");
  if (!perm) return;
  check_ids("perm", *perm);
  check_numbers("mix_lam", *mix_lam, model_name, model);
  if (mix_lam->dim() == 1)
    check_sizes("mix_lam", *mix_lam, "(G,)", {s.groups});
  else
    check_sizes("mix_lam", *mix_lam, "(G,) or (G, D)", maps);
}

// One forward call: its sizes, its inputs as the kernels read them, its results.
struct ForwardCall {
  Sizes sizes;
  Tensor z;
  OptionalTensor noise, given;
  DrawTensors draws;
  Tensor out, centroid, hard_index;

  ForwardCall(const Tensor& all, const Tensor& choice, const Tensor& lam, const OptionalTensor& sigma,
              const OptionalTensor& all_noise, const OptionalTensor& angle, const OptionalTensor& all_given,
              const OptionalTensor& perm, const OptionalTensor& mix_lam, bool per_channel)
      : sizes(checked(all, choice, lam, sigma, all_noise, angle, all_given, perm, mix_lam, per_channel)),
        z(as_clip(all, layout())),
        draws(all, choice, lam, sigma, angle, perm, mix_lam, all_noise.has_value(), all_given.has_value()),
        out(perm
                ? empty_strided(all, {sizes.maps(), 2 * sizes.channels, sizes.height, sizes.width},
                                map_strides(2 * sizes.channels, sizes.height, sizes.width, layout()), all.scalar_type())
                : empty_clip(all, sizes_of(all), layout(), all.scalar_type())),
        centroid(empty_strided(all, centroid_sizes(), centroid_strides(), accumulate_type(all.scalar_type()))),
        hard_index(torch::stable::new_empty(all, {sizes.domains}, ScalarType::Long)) {
    if (all_noise) noise = as_clip(*all_noise, layout());
    if (all_given) given = with_strides(*in_accumulate_type_of(all_given, all), centroid_strides());
    if (all.numel() > 0) return;
    torch::stable::zero_(centroid);
    torch::stable::zero_(hard_index);
  }

  template <class scalar_t>
  const scalar_t* noise_data() const {
    return noise ? data<scalar_t>(*noise) : nullptr;
  }
  template <class acc_t>
  const acc_t* given_data() const {
    return given ? data<acc_t>(*given) : nullptr;
  }

 private:
  ClipLayout layout() const { return sizes.channels_last ? ClipLayout::kChannelsLast : ClipLayout::kContiguous; }
  std::vector<int64_t> centroid_sizes() const {
    if (sizes.per_channel) return {sizes.domains, sizes.height, sizes.width};
    return {sizes.domains, sizes.channels, sizes.height, sizes.width};
  }
  std::vector<int64_t> centroid_strides() const {
    if (sizes.per_channel) return {sizes.positions(), sizes.width, 1};
    return map_strides(sizes.channels, sizes.height, sizes.width, layout());
  }

  static Sizes checked(const Tensor& z, const Tensor& choice, const Tensor& lam, const OptionalTensor& sigma,
                       const OptionalTensor& noise, const OptionalTensor& angle, const OptionalTensor& given,
                       const OptionalTensor& perm, const OptionalTensor& mix_lam, bool per_channel) {
    check_floating("z", z);
    check_axes("z", z, "(G, D, C, H, W)");
    const Sizes s{z.size(0),  z.size(1), z.size(2), z.size(3), z.size(4), clip_layout(z) == ClipLayout::kChannelsLast,
                  per_channel};
    check_draws(s, "z", z, choice, lam, sigma, angle, perm, mix_lam);
    if (noise) check_like("noise", *noise, "z", z);
    if (given) {
      check_numbers("centroid", *given, "z", z);
      if (per_channel)
        check_sizes("centroid", *given, "(D, H, W)", {s.domains, s.height, s.width});
      else
        check_sizes("centroid", *given, "(D, C, H, W)", {s.domains, s.channels, s.height, s.width});
    }
    return s;
  }
};

struct BackwardCall {
  Sizes sizes;
  DrawTensors draws;
  Tensor grad, hard_index, grad_z;

  BackwardCall(const Tensor& all, const Tensor& choice, const Tensor& lam, const OptionalTensor& angle,
               const Tensor& hard, const OptionalTensor& perm, const OptionalTensor& mix_lam, bool per_channel,
               bool given_centroid, bool channels_last)
      : sizes(checked(all, choice, lam, angle, hard, perm, mix_lam, per_channel, channels_last)),
        draws(all, choice, lam, std::nullopt, angle, perm, mix_lam, false, given_centroid),
        grad(perm ? with_strides(all, map_strides(2 * sizes.channels, sizes.height, sizes.width, layout()))
                  : as_clip(all, layout())),
        hard_index(torch::stable::contiguous(hard)),
        grad_z(empty_clip(all, {sizes.groups, sizes.domains, sizes.channels, sizes.height, sizes.width}, layout(),
                          all.scalar_type())) {}

 private:
  ClipLayout layout() const { return sizes.channels_last ? ClipLayout::kChannelsLast : ClipLayout::kContiguous; }

  static Sizes checked(const Tensor& grad, const Tensor& choice, const Tensor& lam, const OptionalTensor& angle,
                       const Tensor& hard, const OptionalTensor& perm, const OptionalTensor& mix_lam, bool per_channel,
                       bool channels_last) {
    check_floating("grad", grad);
    check_axes("choice", choice, "(G, D)");
    const int64_t groups = choice.size(0), domains = choice.size(1);
    Sizes s{groups, domains, 0, 0, 0, channels_last, per_channel};
    if (perm) {
      STD_TORCH_CHECK(grad.dim() == 4 && grad.size(0) == groups * domains && grad.size(1) % 2 == 0,
                      "grad must be (G * D, 2C, H, W) with G * D = ", groups * domains, ", got ",
                      in_words(sizes_of(grad)));
    } else {
      check_axes("grad", grad, "(G, D, C, H, W)");
      STD_TORCH_CHECK(grad.size(0) == groups && grad.size(1) == domains,
                      "grad must be (G, D, C, H, W) with G, D = ", in_words(sizes_of(choice)), ", got ",
                      in_words(sizes_of(grad)));
    }
    const int64_t last = grad.dim();
    s.channels = grad.size(last - 3) / (perm ? 2 : 1);
    s.height = grad.size(last - 2);
    s.width = grad.size(last - 1);
    check_draws(s, "grad", grad, choice, lam, std::nullopt, angle, perm, mix_lam);
    check_index("hard_index", hard, "grad", grad);
    check_sizes("hard_index", hard, "(D,)", {domains});
    return s;
  }
};

}  // namespace dfops::augment
