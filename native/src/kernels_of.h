// Builds the table of one instruction set out of its `Dot`; included last by kernels_<isa>.cpp.
#pragma once

#include "attention.h"
#include "kernels.h"
#include "linear.h"
#include "rows.h"

namespace octavo {
namespace {

template <class Dot>
constexpr Kernels kernels_of(const char* name) {
  return {name,
          Dot::kZero,
          Dot::kRun,
          Dot::kRows,
          linear<Dot>,
          linear_add<Dot>,
          linear_activate<Dot>,
          linear_activate_quantize<Dot>,
          layer_norm<Dot>,
          quantize<Dot>,
          attend,
          dense,
          tanh_of,
          Dot::spin};
}

}  // namespace
}  // namespace octavo
