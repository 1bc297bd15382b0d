// The transforms of short.cuh by NVIDIA's device library cuFFTDx instead (package nvidia-mathdx).
#include <cufftdx.hpp>

template <int R, int SIGN>
struct Short {
    static __device__ inline void run(float2 (&v)[R]) {
        using namespace cufftdx;
        constexpr fft_direction direction = SIGN > 0 ? fft_direction::forward : fft_direction::inverse;
        using Transform = decltype(Thread() + Size<R>() + Type<fft_type::c2c>() + Precision<float>() + Direction<direction>() +
                                   SM<__CUDA_ARCH__>());
        Transform().execute(reinterpret_cast<typename Transform::value_type*>(v));
    }
};
