// out = x + gamma * x * (1/2 (sigmoid(vertical) - 1/2) + 1/2 (sigmoid(horizontal) - 1/2)), element by element.
#pragma once

#include "common/portable.h"

namespace dfops::gate {

template <class acc_t>
DFOPS_HD acc_t gate_at(acc_t x, acc_t vertical, acc_t horizontal, acc_t gamma) {
  return x + gamma * x * (acc_t(0.5) * centred_sigmoid(vertical) + acc_t(0.5) * centred_sigmoid(horizontal));
}

template <class acc_t>
struct Gradients {
  acc_t x, vertical, horizontal;
  acc_t gamma;  // this element's share
};

template <class acc_t>
DFOPS_HD Gradients<acc_t> gate_backward_at(acc_t grad, acc_t x, acc_t vertical, acc_t horizontal, acc_t gamma) {
  const acc_t v = centred_sigmoid(vertical), h = centred_sigmoid(horizontal);
  const acc_t attention = acc_t(0.5) * v + acc_t(0.5) * h;
  const acc_t through = acc_t(0.5) * grad * gamma * x;
  // the derivative of the sigmoid is 1/4 - (sigmoid - 1/2)^2
  return {grad * (1 + gamma * attention), through * (acc_t(0.25) - v * v), through * (acc_t(0.25) - h * h),
          grad * x * attention};
}

}  // namespace dfops::gate
