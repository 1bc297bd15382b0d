// Transforms of up to 16 points in registers: our own, which need no header and run on a CPU in the tests.

// cos(2 pi k / 16)
__device__ constexpr float COSINES[16] = {1.0f, 0.92387953f, 0.70710678f, 0.38268343f, 0.0f, -0.38268343f, -0.70710678f, -0.92387953f,
                                          -1.0f, -0.92387953f, -0.70710678f, -0.38268343f, 0.0f, 0.38268343f, 0.70710678f, 0.92387953f};

// v exp(-2 pi i SIGN k / R); k and R are known when compiling, and the simple angles cost nothing.
template <int SIGN>
__device__ inline float2 turned(float2 v, int k, int r) {
    if (k == 0) return v;
    if (4 * k == r) return make_float2(SIGN * v.y, -SIGN * v.x);
    const int angle = k * (16 / r);
    return times(v, make_float2(COSINES[angle], -SIGN * COSINES[(angle + 12) % 16]));
}

// Transform of R <= 16 points in registers, by halves; SIGN 1 forward, -1 inverse; not normalised.
template <int R, int SIGN>
struct Short {
    static __device__ inline void run(float2 (&v)[R]) {
        float2 even[R / 2], odd[R / 2];
#pragma unroll
        for (int i = 0; i < R / 2; ++i) {
            even[i] = v[2 * i];
            odd[i] = v[2 * i + 1];
        }
        Short<R / 2, SIGN>::run(even);
        Short<R / 2, SIGN>::run(odd);
#pragma unroll
        for (int k = 0; k < R / 2; ++k) {
            const float2 w = turned<SIGN>(odd[k], k, R);
            v[k] = even[k] + w;
            v[k + R / 2] = even[k] - w;
        }
    }
};

template <int SIGN>
struct Short<1, SIGN> {
    static __device__ inline void run(float2 (&)[1]) {}
};
