#include <algorithm>
#include <tuple>

#include "common/launch.cuh"
#include "latent_augment/latent_augment_blocks.h"
#include "latent_augment/latent_augment_host.h"

namespace dfops::augment {
namespace {

// The elements of a slice of a domain's rows, the most slices, and the most blocks that share the maps.
constexpr int64_t kSlice = 1024, kMostSlices = 32, kMostBlocks = 1 << 15;

template <class scalar_t>
bool packs(const Sizes& s) {
  return s.channels_last && s.channels % Channels<scalar_t, true>::kPack == 0;
}

std::tuple<Tensor, Tensor, Tensor> forward(const ForwardCall& call) {
  const Sizes& s = call.sizes;
  const Tensor& z = call.z;
  const torch::stable::accelerator::DeviceGuard guard(z.get_device_index());
  if (z.numel() == 0) return {call.out, call.centroid, call.hard_index};
  dispatch(z, [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    using Sums = MapSumsBody<scalar_t>;
    using Distances = ChannelDistancesBody<scalar_t>;
    using Statistics = SampleStatisticsBody<scalar_t>;
    const auto draws = call.draws.template pointers<acc_t>();
    const acc_t* given = call.given_data<acc_t>();
    acc_t* centroid = mutable_data<acc_t>(call.centroid);
    const int64_t statistic_slices = min64(kMostSlices, ceil_div(s.map(), kSlice)), candidates = Distances::tiles(s);
    std::optional<Tensor> shares, keys, rows;
    if (s.per_channel) {
      const Tensor sums = torch::stable::new_empty(call.centroid, {s.maps(), s.positions()});
      keys = torch::stable::new_empty(z, {s.maps() * candidates}, ScalarType::Long);
      rows = torch::stable::new_empty(z, {s.maps() * candidates}, ScalarType::Long);
      launch(z, Sums::blocks(s), kThreads, Sums::shared_bytes(),
             Sums{mutable_data<acc_t>(sums), data<scalar_t>(z), draws, s, 1, false});
      launch(z, s.maps() * candidates, kThreads, Distances::shared_bytes(),
             Distances{centroid, mutable_data<uint64_t>(*keys), mutable_data<int64_t>(*rows), data<acc_t>(sums),
                       data<scalar_t>(z), given, s});
    } else {
      shares = torch::stable::new_empty(call.centroid, {s.domains, statistic_slices, s.groups});
      launch(z, s.domains * statistic_slices, kThreads, Statistics::shared_bytes(),
             Statistics{centroid, mutable_data<acc_t>(*shares), data<scalar_t>(z), given, s, statistic_slices});
    }
    const auto transform = [&](auto vector) {
      const int64_t items = Channels<scalar_t, vector.value>::items(s);
      const int64_t slices = min64(ceil_div(items, kThreads), ceil_div(kMostBlocks, s.maps()));
      launch(
          z, s.maps() * slices, kThreads, 0,
          TransformBody<scalar_t, vector.value>{
              mutable_data<scalar_t>(call.out), mutable_data<int64_t>(call.hard_index), data<scalar_t>(z),
              call.noise_data<scalar_t>(), given != nullptr ? given : centroid, shares ? data<acc_t>(*shares) : nullptr,
              keys ? data<uint64_t>(*keys) : nullptr, rows ? data<int64_t>(*rows) : nullptr, statistic_slices,
              candidates, slices, call.draws.halves(), draws, s});
    };
    // fresh allocations are aligned; the inputs decide
    if (packs<scalar_t>(s) && aligned(z) && (!call.noise || aligned(*call.noise)) &&
        (!call.given || aligned(*call.given)))
      transform(std::true_type());
    else
      transform(std::false_type());
  });
  return {call.out, call.centroid, call.hard_index};
}

std::tuple<Tensor, Tensor, Tensor> latent_augment_cuda(const Tensor& z, const Tensor& choice, const Tensor& lam,
                                                       const OptionalTensor& sigma, const OptionalTensor& noise,
                                                       const OptionalTensor& angle, const OptionalTensor& centroid,
                                                       bool per_channel, bool detach_statistics) {
  return forward(ForwardCall(z, choice, lam, sigma, noise, angle, centroid, std::nullopt, std::nullopt, per_channel));
}

std::tuple<Tensor, Tensor, Tensor> latent_augment_mix_cuda(const Tensor& z, const Tensor& perm, const Tensor& mix_lam,
                                                           const Tensor& choice, const Tensor& lam,
                                                           const OptionalTensor& sigma, const OptionalTensor& noise,
                                                           const OptionalTensor& angle, const OptionalTensor& centroid,
                                                           bool per_channel, bool detach_statistics) {
  return forward(ForwardCall(z, choice, lam, sigma, noise, angle, centroid, perm, mix_lam, per_channel));
}

Tensor latent_augment_backward_cuda(const Tensor& grad, const Tensor& choice, const Tensor& lam,
                                    const OptionalTensor& angle, const Tensor& hard_index, const OptionalTensor& perm,
                                    const OptionalTensor& mix_lam, bool per_channel, bool given_centroid,
                                    bool detach_statistics, bool channels_last) {
  const BackwardCall call(grad, choice, lam, angle, hard_index, perm, mix_lam, per_channel, given_centroid,
                          channels_last);
  const torch::stable::accelerator::DeviceGuard guard(grad.get_device_index());
  const Sizes& s = call.sizes;
  if (grad.numel() == 0) return call.grad_z;
  dispatch(grad, [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    using Sums = MapSumsBody<scalar_t>;
    const auto draws = call.draws.template pointers<acc_t>();
    const int64_t halves = call.draws.halves();
    std::optional<Tensor> map_sums;
    if (per_channel) {
      map_sums = torch::stable::new_empty(grad, {s.maps(), s.positions()}, accumulate_type(grad.scalar_type()));
      launch(grad, Sums::blocks(s), kThreads, Sums::shared_bytes(),
             Sums{mutable_data<acc_t>(*map_sums), data<scalar_t>(call.grad), draws, s, halves, true});
    }
    const auto differentiate = [&](auto vector) {
      using Body = BackwardBody<scalar_t, vector.value>;
      launch(grad, Body::blocks(s), kThreads, Body::shared_bytes(),
             Body{mutable_data<scalar_t>(call.grad_z), data<scalar_t>(call.grad), data<int64_t>(call.hard_index),
                  map_sums ? data<acc_t>(*map_sums) : nullptr, draws, s, halves, detach_statistics});
    };
    if (packs<scalar_t>(s) && aligned(call.grad))
      differentiate(std::true_type());
    else
      differentiate(std::false_type());
  });
  return call.grad_z;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CUDA, m) {
  m.impl("latent_augment", TORCH_BOX(&latent_augment_cuda));
  m.impl("latent_augment_mix", TORCH_BOX(&latent_augment_mix_cuda));
  m.impl("_latent_augment_backward", TORCH_BOX(&latent_augment_backward_cuda));
}

}  // namespace dfops::augment
