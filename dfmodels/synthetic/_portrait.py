"""The layers of a portrait: head, hair, body, glasses, and the eyes and mouth of every frame."""

from __future__ import annotations

import numpy as np

from dfmodels.synthetic._canvas import Array, Layer, both, ellipse, f32, load_cv2, mirrored, resample, spline, strands
from dfmodels.synthetic._identity import CLOTH, ROOM, Identity, Light, near_colour

EYE_Y = -0.11
MOUTH_Y = 0.375
_INK = f32((0.10, 0.05, 0.04))


def _gauss(x: Array, y: Array, cx: float, cy: float, rx: float, ry: float, height: float) -> Array:
    return f32(height * np.exp(-(((y - cy) / ry) ** 2)) * np.exp(-(((x - cx) / rx) ** 2)))


class Portrait:
    """The layers of one identity under one light; `face` gives the head layer of a frame.

    Args:
        identity: who is shown.
        light: colours and shading.
        clothes: draws what the body wears.
        scale: pixels per head unit.
    """

    def __init__(self, identity: Identity, light: Light, clothes: np.random.Generator, scale: float) -> None:
        self.cv2 = load_cv2()
        self.identity, self.light, self.scale = identity, light, scale
        shorn = identity.hair_style == "buzz"
        self.head = Layer(self.cv2, scale, identity.skin if shorn else identity.hair)
        self.body = Layer(self.cv2, scale, identity.hair if identity.hair_style == "long" else identity.skin)
        self.x, self.y = self.head.grid()
        self.level = light.ambient + 0.55 * light.diffuse
        shadow = identity.skin * f32((0.52, 0.38, 0.34)) * light.tint
        self.shadow = shadow * (light.ambient + 0.5 * light.diffuse)
        self._relief()
        self.hair = self._hair()
        self._draw_head()
        self._draw_body(clothes)
        self._draw_glasses()
        self._eyes: tuple[tuple[float, float, float], Layer] | None = None

    # ------------------------------------------------------------------ surface

    def _relief(self) -> None:
        """Height of the face, which gives shading and parallax."""
        who, x, y, light = self.identity, self.x, self.y, self.light
        dome = 1 - (x / (who.head_width * 1.10)) ** 2 - ((y + 0.02) / 0.92) ** 2
        depth = 0.62 * np.sqrt(np.maximum(dome, 0) + 0.03)
        ax, tip = np.abs(x), who.nose_length
        along = np.clip((y + 0.20) / (tip + 0.20), 0, 1)
        ridge = 0.15 * along**1.3 * (0.5 - 0.5 * np.tanh((y - tip - 0.022) / 0.020))
        near = ax[0] < 0.35  # the nose reaches no farther, and the exponential below is dear
        depth[:, near] += ridge * np.exp(-((x[:, near] / (0.040 + 0.45 * who.nose_width * along)) ** 2))
        depth += _gauss(x, y, 0, tip - 0.015, 0.065, 0.05, 0.035)
        depth += _gauss(ax, y, who.nose_width * 0.80, tip + 0.005, 0.035, 0.032, 0.035)
        depth += _gauss(ax, y, who.eye_x, who.brow_y + 0.01, 0.17, 0.055, 0.030)
        depth += _gauss(ax, y, who.eye_x - 0.02, EYE_Y - 0.01, 0.13, 0.085, -0.048)
        depth += _gauss(ax, y, 0.33, 0.08, 0.15, 0.12, 0.045)
        depth += _gauss(ax, y, 0.33, 0.36, 0.10, 0.14, -0.020)
        depth += _gauss(x, y, 0, MOUTH_Y, 0.21, 0.10, 0.030)
        depth += _gauss(x, y, 0, MOUTH_Y + 0.125, 0.13, 0.032, -0.022)
        depth += _gauss(x, y, 0, MOUTH_Y - 0.09, 0.022, 0.05, -0.010)
        depth += _gauss(x, y, 0, who.chin_y - 0.115, 0.13, 0.075, 0.040)
        self.depth: Array = f32(depth)

        soft = max(0.012 * self.scale, 0.3)
        smooth = self.cv2.GaussianBlur(depth, (0, 0), soft)
        slope = 0.5 * self.scale
        p = slope * self.cv2.filter2D(smooth, -1, f32([[-1, 0, 1]]))
        q = slope * self.cv2.filter2D(smooth, -1, f32([[-1], [0], [1]]))
        length = 1 / np.sqrt(1 + p * p + q * q)
        lx, ly, lz = (float(v) for v in light.direction)
        wrap = np.maximum(((lz - lx * p - ly * q) * length + 0.25) / 1.25, 0)
        self.shade: Array = light.ambient + light.diffuse * wrap
        norm = float(np.sqrt(lx * lx + ly * ly + (lz + 1) ** 2))
        facing = np.clip(((lz + 1) / norm - (lx / norm) * p - (ly / norm) * q) * length, 0, 1)
        facing *= facing
        facing *= facing
        self.gloss: Array = facing * facing * facing * facing * facing
        # Hair and clothes take a broad gradient of the light only.
        across, down = np.clip(x / 0.7, -1.2, 1.2), np.clip((y + 0.1) / 0.9, -1.2, 1.2)
        broad = light.ambient + 0.62 * light.diffuse
        self.broad: Array = broad + 0.30 * broad * (lx * across + ly * down)

    def _upscale(self, grid: Array) -> Array:
        side = self.head.side
        out: Array = self.cv2.resize(grid, (side, side), interpolation=self.cv2.INTER_CUBIC)
        return out

    def _skin(self) -> Array:
        who = self.identity
        grain = self._upscale(who.pores)
        rough = 1 + 0.013 * self._upscale(who.pores[:26, :26]) + 0.020 * grain
        skin = self._upscale(0.012 * who.blotches)
        skin += 1
        skin *= who.skin * self.light.tint
        # Shadows on skin are redder than the light.
        shade = rough * self.shade
        skin *= shade[..., None] * (1 + f32((0.0, 0.13, 0.22)) * (self.shade - 1)[..., None])
        skin += (0.13 * self.gloss * (1 + 0.25 * grain))[..., None]
        return skin

    def _hair(self) -> Array:
        """Hair all over the layer, with the bright ring that smooth hair shows."""
        who = self.identity
        r = np.sqrt((self.x / (who.head_width + 0.06)) ** 2 + ((self.y + 0.05) / 0.88) ** 2)
        lx, ly = float(self.light.direction[0]), float(self.light.direction[1])
        ring = np.exp(-(((r - 0.80) / 0.10) ** 2)) * np.clip(0.55 + 0.9 * (lx * self.x + ly * self.y), 0, 1.3)
        hair = (self.broad * (1 + 0.85 * ring))[..., None] * (who.hair * self.light.tint)
        hair += (0.05 * ring)[..., None]
        return hair

    # ------------------------------------------------------------------ head

    def _draw_head(self) -> None:
        who, head = self.identity, self.head
        head.rgb *= self.broad[..., None]
        outline = who.contour()
        self._draw_ears()
        head.paint([outline], self._skin(), solid=True)
        self.inside = head.full([outline])
        # The surface turns away at the outline, so that the head reads as round even in flat light.
        rim = 0.28 * self.inside * (1 - head.full([who.contour(-0.05)], blur=0.045))
        head.blend((slice(None), slice(None)), rim, self.shadow)

        mean = float(self.broad.mean())
        red = f32((0.80, 0.34, 0.30)) * mean * who.skin.max()
        for side in (-1.0, 1.0):
            head.spot(0.30 * side, 0.14, 0.12, 0.09, red, who.blush)
            head.spot(side * (who.eye_x - 0.01), EYE_Y + 0.075, 0.085, 0.028, self.shadow, 0.18)
            head.spot(side * (who.eye_x - 0.03), EYE_Y - 0.085, 0.10, 0.035, self.shadow, 0.26)
            head.spot(side * 0.075, EYE_Y + 0.01, 0.030, 0.07, self.shadow, 0.20)
        fold = [
            (0.95 * who.nose_width + 0.035, who.nose_length),
            (0.19, 0.25),
            (who.mouth_width + 0.045, MOUTH_Y + 0.01),
        ]
        head.paint(both(spline(f32(fold))), self.shadow, 0.38, width=0.014, blur=0.009)
        head.spot(0, who.nose_length - 0.01, 0.07, 0.05, red, 0.6 * who.blush)
        self._draw_nose()
        spots = [ellipse(float(x), float(y), float(r), float(r), 10) for x, y, r in who.freckles]
        brown = who.skin * f32((0.66, 0.50, 0.42))
        head.paint(spots, brown, 0.45, shade=mean, inside=self.inside, blur=0.003)
        self._draw_beard()
        self._draw_brows(mean)
        self._draw_hair()

    def _draw_ears(self) -> None:
        who, head = self.identity, self.head
        at, size = f32((0.985 * who.head_width, 0)), who.ear_size
        shell = [
            (-0.04, -0.17),
            (0.035, -0.20),
            (0.085, -0.13),
            (0.075, -0.02),
            (0.045, 0.08),
            (0, 0.12),
            (-0.05, 0.06),
        ]
        colour = who.skin * f32((0.97, 0.86, 0.83)) * self.light.tint
        head.paint(both(spline(size * f32(shell) + at, closed=True)), colour, shade=self.broad, solid=True)
        fold = f32([(0.035, -0.15), (0.056, -0.10), (0.045, -0.01), (0.012, 0.05)])
        head.paint(both(spline(size * fold + at)), self.shadow, 0.55, width=0.022, blur=0.008)

    def _draw_nose(self) -> None:
        who, head = self.identity, self.head
        tip, w = who.nose_length, who.nose_width
        head.spot(0, tip + 0.050, 0.75 * w, 0.020, self.shadow, 0.45)
        away = -1.0 if self.light.direction[0] > 0 else 1.0
        head.spot(0.8 * away * w, tip - 0.06, 0.022, 0.08, self.shadow, 0.25)
        head.paint(both(ellipse(0.48 * w, tip + 0.030, 0.30 * w, 0.014, 14)), _INK, 0.72, blur=0.006)
        wing = [(0.80 * w, tip - 0.045), (1.08 * w, tip - 0.005), (1.02 * w, tip + 0.03), (0.80 * w, tip + 0.036)]
        head.paint(both(spline(f32(wing))), self.shadow, 0.58, width=0.012, blur=0.005)

    def _draw_brows(self, shade: float) -> None:
        who, head = self.identity, self.head
        x, y, t, arch = who.eye_x, who.brow_y, who.brow_thickness, who.brow_arch
        rise = f32((0.0, 0.6, 1.0, 0.4)) * arch
        across = f32((x - 0.125, x - 0.02, x + 0.08, x + 0.155))
        top = np.stack((across, y + f32((-0.25 * t, -0.65 * t, -0.45 * t, 0.024)) - rise), axis=1)
        low = np.stack((across, y + f32((0.60 * t, 0.45 * t, 0.40 * t, 0.030)) - rise), axis=1)
        brow = spline(np.concatenate((top, low[2::-1])), closed=True)
        colour = 0.62 * who.hair + 0.02
        head.paint(both(brow), colour, 0.72, shade=shade, blur=0.006)
        hairs = strands(np.random.default_rng(who.strand_seed + 1), low, top, (0, 0), 26, 0.03)
        head.paint(np.concatenate((hairs, mirrored(hairs))), colour, 0.6, shade=0.6 * shade, width=0.006)

    def _draw_beard(self) -> None:
        who, head, w = self.identity, self.head, self.identity.mouth_width
        if who.beard == "none":
            return
        if who.beard == "goatee":
            right = [(0, 0.25), (w + 0.03, 0.27), (w + 0.02, 0.45), (0.14, who.chin_y - 0.01), (0, who.chin_y + 0.01)]
            region = spline(np.concatenate((f32(right), mirrored(f32(right[-2:0:-1])))), closed=True)
        elif who.beard == "moustache":
            right = [(0, 0.262), (0.5 * w, 0.265), (w + 0.03, 0.37), (0.5 * w, 0.335), (0, 0.32)]
            region = spline(np.concatenate((f32(right), mirrored(f32(right[-2:0:-1])))), closed=True)
        else:
            jaw = who.contour(0.035 if who.beard == "full" else 0.0)
            cheek = f32([(-0.85 * who.head_width, 0.10), (-0.37, 0.29), (-0.25, 0.275), (-0.10, 0.245), (0, 0.252)])
            region = np.concatenate((jaw[jaw[:, 1] > 0.02], spline(np.concatenate((cheek, mirrored(cheek[-2::-1]))))))
        stubble = who.beard == "stubble"
        colour = 0.92 * who.hair * self.light.tint
        where, mask = head.mask([region], blur=0.05 if stubble else 0.014)
        mask = np.minimum(mask * (0.40 if stubble else 0.90) * (1 + 0.22 * self._upscale(who.pores)[where]), 1)
        head.blend(where, mask, colour, self.broad, who.beard == "full")
        if stubble:
            return
        keep = np.zeros(head.alpha.shape, dtype=np.float32)
        keep[where] = mask
        rng = np.random.default_rng(who.strand_seed + 2)
        root = rng.uniform((-0.55, 0.1), (0.55, 0.82), (260, 2))
        flow = np.stack((0.35 * root[:, 0], np.full(len(root), 0.09)), axis=1) * rng.uniform(0.6, 1.2, (260, 1))
        hairs = f32(np.stack((root, root + 0.55 * flow + rng.normal(0, 0.008, flow.shape), root + flow), axis=1))
        head.paint(hairs[:130], colour, 0.55, shade=0.62 * self.broad, width=0.008, inside=keep)
        head.paint(hairs[130:], colour + 0.02, 0.45, shade=1.35 * self.broad, width=0.008, inside=keep)

    # ------------------------------------------------------------------ hair

    def _hairline(self) -> Array:
        """Curve across the forehead from the left ear to the right one."""
        who = self.identity
        y = who.hairline
        # Fractions of the head's width, heights.
        if who.hair_style == "fringe":
            curve = [(0, -0.355), (0.55, -0.375), (0.86, -0.30), (1.0, -0.05)]
        elif who.hair_style == "long":
            curve = [(0.05 * who.hair_side, y - 0.12), (0.52, -0.46), (0.90, -0.22), (0.97, 0.15)]
        elif who.hair_style == "parted":
            curve = [(-1.0, -0.04), (-0.93, -0.32), (-0.62, -0.43), (-0.05, y - 0.02)]
            curve += [(0.38, y - 0.13), (0.74, -0.46), (0.95, -0.32), (1.0, -0.04)]
        elif who.hair_style == "swept":
            curve = [(-1.0, -0.10), (-0.92, -0.36), (-0.60, y - 0.02), (-0.2, y - 0.01)]
            curve += [(0.2, y + 0.03), (0.62, y + 0.08), (0.94, -0.30), (1.0, -0.06)]
        else:
            curve = [(0, y - 0.015), (0.35, y), (0.74, -0.43), (0.93, -0.30), (1.0, -0.05)]
        points = f32(curve) * f32((who.head_width, 1))
        if curve[0][0] > -1:
            points = np.concatenate((mirrored(points[:0:-1]), points))
        elif who.hair_side < 0:
            points = mirrored(points[::-1])
        return spline(points)

    def _draw_hair(self) -> None:
        who, head, hair, style = self.identity, self.head, self.hair, self.identity.hair_style
        rng = np.random.default_rng(who.strand_seed)
        line = self._hairline()
        extra = {"buzz": 0.012 - who.hair_volume, "curly": 0.05, "swept": 0.02}.get(style, 0.0)
        outer = who.contour(who.hair_volume + extra)
        outer = outer[np.argsort(np.arctan2(outer[:, 0], -outer[:, 1]))]
        outer = outer[outer[:, 1] < float(line[0, 1]) + 0.02]
        region = np.concatenate((outer, line[::-1]))
        if style == "buzz":
            where, mask = head.mask([region], blur=0.02)
            mask = np.minimum(mask * (0.76 + 0.08 * self._upscale(who.pores)[where]), 1)
            head.blend(where, mask, hair, solid=True)
            return
        if style == "long":
            lock = f32([(0.88, -0.35), (0.93, -0.05), (0.98, 0.25), (0.94, 0.60), (0.98, 1.20)])
            far = f32([(1.12, -0.25), (1.20, 0.20), (1.26, 0.60), (1.30, 0.90), (1.34, 1.20)])
            lock, far = lock * f32((who.head_width, 1)), far * f32((who.head_width, 1))
            head.paint(both(spline(np.concatenate((lock, far[::-1])), closed=True)), hair, solid=True, blur=0.004)
            for amount, shade, opacity in ((14, 0.58, 0.5), (12, 1.38, 0.4)):
                curves = np.stack([spline(lock + u * (far - lock)) for u in f32(rng.uniform(0, 1, amount))])
                head.paint(np.concatenate((curves, mirrored(curves))), hair, opacity, shade=shade, width=0.009)
        # The hair casts a soft shadow on the forehead.
        head.paint([line + f32((0, 0.02))], self.shadow, 0.50, width=0.05, blur=0.02, inside=self.inside)
        if style == "curly":
            self._draw_curls(rng, region, outer, line)
            return
        head.paint([region], hair, solid=True, blur=0.004)
        keep = head.full([region])
        side = who.hair_side
        if style == "fringe":
            crown = f32([(-0.25, -0.86), (0.25, -0.86)])
            down, aside = (
                strands(rng, crown, line, (0, -0.05), 150, 0.02),
                strands(rng, crown, outer, (0, -0.10), 40, 0.02),
            )
            hairs = np.concatenate((down, aside))
        elif style in ("parted", "long"):
            at, top = line[int(line[:, 1].argmin())]
            part = f32([(at, top), (0.6 * at, -0.90)])
            left = strands(rng, part, outer[outer[:, 0] <= at][::-1], (-0.16, -0.07), 90, 0.05)
            right = strands(rng, part, outer[outer[:, 0] > at], (0.16, -0.07), 90, 0.05)
            hairs = np.concatenate((left, right))
        else:
            bend = (0.16 * side, -0.06) if style == "swept" else (0.05 * side, -0.03)
            hairs = strands(rng, line, outer, bend, 180, 0.035)
        hairs = hairs[rng.permutation(len(hairs))]
        for start, shade, opacity, width in ((0, 0.58, 0.60, 0.011), (1, 1.40, 0.45, 0.009), (2, 0.58, 0.35, 0.016)):
            head.paint(hairs[start::3], hair, opacity, shade=shade, width=width, inside=keep)

    def _draw_curls(self, rng: np.random.Generator, region: Array, outer: Array, line: Array) -> None:
        head, count = self.head, 44
        edge, rim = resample(outer, count), resample(line, count)
        curls = [
            ellipse(float(x), float(y), r, r, 14)
            for (x, y), r in zip(edge, rng.uniform(0.05, 0.085, count), strict=True)
        ]
        curls += [
            ellipse(float(x), float(y), r, r, 14) for (x, y), r in zip(rim, rng.uniform(0.03, 0.05, count), strict=True)
        ]
        head.paint([*curls, region], self.hair, solid=True)
        for shade, opacity, amount in ((0.58, 0.55, 110), (1.40, 0.45, 90)):
            at = rng.integers(0, count, amount)
            centre = rim[at] + rng.uniform(0, 1, (amount, 1)) * (1.04 * edge[at] - rim[at])
            turn = rng.uniform(0, 2 * np.pi, (amount, 1)) + np.linspace(0, 3.6, 9)
            arc = rng.uniform(0.018, 0.042, (amount, 1, 1)) * np.stack((np.cos(turn), np.sin(turn)), axis=2)
            head.paint(f32(centre[:, None] + arc), self.hair, opacity, shade=shade, width=0.012)

    # ------------------------------------------------------------------ body and glasses

    def _draw_body(self, rng: np.random.Generator) -> None:
        who, body, tint = self.identity, self.body, self.light.tint
        if who.hair_style == "long":
            right = [(0, -0.88), (0.9, -0.70), (1.2, -0.2), (1.28, 0.4), (1.36, 1.24), (0, 1.24)]
            curve = f32(right) * f32((who.head_width, 1))
            fall = spline(np.concatenate((curve, mirrored(curve[-2:0:-1]))), closed=True)
            body.paint([fall], self.hair, shade=0.55, solid=True)
        cloth = near_colour(rng, CLOTH, 0.04) * tint
        folds, weave = (self._upscale(f32(rng.normal(0, 1, (n, n)))) for n in (7, 90))
        fabric = self.broad * (1 + 0.07 * folds + 0.03 * weave)
        if rng.random() < 0.25:
            wave = np.sin(2 * np.pi * (self.y / float(rng.uniform(0.1, 0.2)) + 0.3 * self.x**2))
            fabric *= np.where(wave > 0, np.float32(0.65), np.float32(1))
        n = 0.62 * who.jaw_width + 0.06
        neck = f32([(n, 0.3), (n, 0.72), (n + 0.05, 0.92), (n + 0.2, 1.24)])
        neck = np.concatenate((neck, mirrored(neck[::-1])))
        body.paint([neck], who.skin * tint * f32((0.92, 0.86, 0.84)), shade=self.broad, solid=True)
        inside = body.full([neck])
        body.spot(0, who.chin_y - 0.02, 0.36, 0.12, self.shadow, 0.80, inside)
        for side in (-1.0, 1.0):
            body.spot(side * n, 0.85, 0.05, 0.3, self.shadow, 0.35, inside)
        cord = spline(f32([(0.75 * n, 0.80), (0.45 * n, 0.95), (0.12, 1.06)]))
        body.paint(both(cord), self.shadow, 0.30, width=0.02, blur=0.012)
        collar = ("round", "vee", "shirt")[int(rng.integers(3))]
        dip = {"round": 0.99, "vee": 1.16, "shirt": 1.12}[collar]
        shoulder = spline(f32([(-1.6, 1.24), (-1.25, 1.06), (-0.85, 0.96), (-n - 0.12, 0.86), (-n - 0.01, 0.80)]))
        middle = 0.5 * (0.88 + dip) + (0.03 if collar == "round" else 0.0)
        rim = spline(f32([(-n * 0.85, 0.88), (-n * 0.45, middle), (0.0, dip)]))
        left = np.concatenate((shoulder, rim))
        outline = np.concatenate((left, mirrored(left[::-1]), f32([(1.6, 1.4), (-1.6, 1.4)])))
        body.paint([outline], cloth, shade=fabric, solid=True)
        body.paint([np.concatenate((rim, mirrored(rim[::-1])))], cloth, 0.8, shade=0.6 * fabric, width=0.03, blur=0.006)
        if collar == "shirt":
            flap = f32(
                [(n + 0.02, 0.78), (n * 0.55, 0.92), (0.01, 1.10), (0.16, 1.22), (n + 0.09, 0.93), (n + 0.02, 0.78)]
            )
            body.paint(both(flap), cloth, shade=1.18 * fabric, blur=0.003)
            body.paint(both(flap), cloth, 0.6, shade=0.55 * fabric, width=0.010)

    def _draw_glasses(self) -> None:
        who = self.identity
        self.glasses: tuple[tuple[slice, slice], Array, Array] | None = None
        if who.glasses == "none":
            return
        over = Layer(self.cv2, self.scale, who.frames)
        over.rgb *= self.broad[..., None]
        rx, ry, power = (0.165, 0.145, 1.0) if who.glasses == "round" else (0.178, 0.118, 0.55)
        centre = 1.02 * who.eye_x
        angle = np.linspace(0, 2 * np.pi, 41)
        c, s = np.cos(angle), np.sin(angle)
        oval = np.stack((rx * np.sign(c) * np.abs(c) ** power, ry * np.sign(s) * np.abs(s) ** power), axis=1)
        rim = f32(oval) + f32((centre, EYE_Y + 0.02))
        over.paint(both(rim), f32((0.85, 0.90, 0.95)), 0.07, solid=True)
        glint = rim[(angle > 3.6) & (angle < 4.6)] + f32((0, 0.045))
        for shift in (0.0, -2 * centre):
            over.paint([glint + f32((shift, 0))], f32((0.95, 0.97, 1.0)), 0.40, width=0.022, blur=0.008, solid=True)
        temple = f32([(centre + rx, EYE_Y - 0.02), (who.head_width + 0.01, EYE_Y - 0.05)])
        gap = centre - rx
        bridge = spline(f32([(-gap, EYE_Y + 0.01), (0, EYE_Y - 0.025), (gap, EYE_Y + 0.01)]))
        metal = [*both(rim), *both(temple), bridge]
        over.paint(metal, who.frames, shade=self.broad, width=0.026, solid=True)
        where, _ = over.mask([f32([(-0.66, -0.32), (0.66, 0.2), (0.66, -0.32)])])
        self.glasses = (where, over.rgb[where].copy(), over.alpha[where].copy())

    # ------------------------------------------------------------------ a frame

    def face(self, blink: float, gaze: tuple[float, float], mouth: float, smile: float) -> Array:
        """Head layer (side, side, 3) with the eyes and the mouth of one frame.

        Args:
            blink: 0 for open eyes to 1 for closed ones.
            gaze: horizontal and vertical, about -1 to 1.
            mouth: 0 for closed to 1 for wide open.
            smile: -1 to 1.
        """
        # Eyes mostly rest between glances, so those of the frame before often serve again.
        look = (blink, *gaze)
        if self._eyes is None or self._eyes[0] != look:
            self._eyes = (look, self.head.copy())
            self._draw_eyes(self._eyes[1], blink, gaze)
        frame = self._eyes[1].copy()
        self._draw_mouth(frame, mouth, smile)
        if self.glasses is not None:
            where, rgb, alpha = self.glasses
            frame.rgb[where] += alpha[..., None] * (rgb - frame.rgb[where])
        return frame.rgb

    def _draw_eyes(self, frame: Layer, blink: float, gaze: tuple[float, float]) -> None:
        # Both eyes are drawn by the same calls: at small sizes the calls are the cost.
        who, sides = self.identity, f32((-1.0, 1.0))[:, None]
        w, h, x = who.eye_width, who.eye_height, sides * who.eye_x
        u = np.linspace(-1, 1, 13, dtype=np.float32)[None, :]
        arch = (1 - u**2) ** 0.75
        slant = -who.eye_tilt * h * u  # outer corner up
        wide = 1 - 0.94 * blink
        lower = EYE_Y + slant + 0.62 * h * arch
        upper = np.minimum(EYE_Y + slant - h * arch * (1.08 * wide - 0.45 * (1 - wide)), lower - 0.004)
        across = x + sides * w * u

        def curve(level: Array, rise: float = 0.0) -> Array:
            return np.stack((across, np.broadcast_to(level - rise, across.shape)), axis=2)

        top, low = curve(upper), curve(lower)
        level = np.float32(self.level)
        iris, dark = who.iris * level, np.full(3, 0.03, dtype=np.float32)
        frame.paint(curve(upper, 0.012), self.shadow, 0.35, width=0.03, blur=0.010)
        where, mask = frame.mask(np.concatenate((top, low[:, ::-1]), axis=1))
        frame.blend(where, mask, f32((0.93, 0.91, 0.89)) * self.light.tint, min(1.02 * self.level, 1.03))
        inside = np.zeros(frame.alpha.shape, dtype=np.float32)
        inside[where] = mask
        gx, gy, r = 0.030 * gaze[0], EYE_Y - 0.006 + 0.016 * gaze[1], 0.052
        centres = [float(c) + gx for c in x[:, 0]]
        shine = 0.35 * r if self.light.direction[0] > 0 else -0.35 * r

        def disc(radius: float, down: float = 0.0, flat: float = 1.0, aside: float = 0.0) -> list[Array]:
            return [ellipse(c + aside, gy + down, radius, flat * radius) for c in centres]

        frame.paint(disc(r), iris, shade=0.42, inside=inside)
        frame.paint(disc(0.84 * r), iris, shade=1.02, inside=inside)
        frame.paint(disc(0.58 * r, 0.38 * r, 0.62), np.minimum(1.55 * iris, 1), 0.6, inside=inside, blur=0.006)
        frame.paint(disc(0.42 * r), dark, inside=inside)
        # The lid shades the upper part of the eyeball.
        frame.paint(curve(upper, -0.008), 4 * dark, 0.42, width=0.022, blur=0.006, inside=inside)
        frame.paint(disc(0.20 * r, -0.36 * r, aside=shine), 32 * dark, 0.95, inside=inside)
        corner = who.eye_x - w + 0.012
        frame.paint(both(ellipse(corner, EYE_Y + who.eye_tilt * h, 0.012, 0.009, 10)), who.lips * level, 0.6)
        tail = top[:, -1:] + np.stack((0.014 * sides, np.full_like(sides, -0.006)), axis=2)
        frame.paint(np.concatenate((top, tail), axis=1), _INK, 0.88, width=0.018)
        frame.paint(low, self.shadow, 0.60, width=0.010)
        crease = curve(EYE_Y + slant - 1.42 * h * arch, 0.016)[:, 1:-1]
        frame.paint(crease, self.shadow, 0.62 - 0.35 * blink, width=0.012, blur=0.004)

    def _draw_mouth(self, frame: Layer, mouth: float, smile: float) -> None:
        who, y = self.identity, MOUTH_Y
        w = who.mouth_width * (1 + 0.10 * smile - 0.10 * mouth)
        gap, lift = 0.115 * mouth, 0.022 * smile
        upper, lower = who.upper_lip * (1 - 0.15 * mouth), who.lower_lip * (1 - 0.12 * mouth)
        u = np.linspace(-1, 1, 17, dtype=np.float32)
        side, arch = np.abs(u), 1 - u**2
        corner = y - lift * side**2.5 + 0.25 * lift + 0.006 * np.cos(3 * np.pi * u) * arch
        bow = np.exp(-(((side - 0.24) / 0.30) ** 2)) + 0.42 * arch
        top = corner - 0.30 * gap * arch**0.8
        low = corner + 0.70 * gap * arch**0.8
        crest = top - 0.95 * upper * bow * np.sqrt(1 - side**3)
        base = low + lower * arch**0.75
        outer_top, inner_top, inner_low, outer_low = (np.stack((w * u, v), axis=1) for v in (crest, top, low, base))
        level = np.float32(self.level)
        parted = gap > 0.004
        if parted:
            where, mask = frame.mask([np.concatenate((inner_top, inner_low[::-1]))])
            frame.blend(where, mask, f32((0.20, 0.05, 0.05)))
            inside = np.zeros(frame.alpha.shape, dtype=np.float32)
            inside[where] = mask
            tongue = f32((0.62, 0.26, 0.25)) * level
            frame.spot(0, y + 0.60 * gap + 0.01, 0.6 * w, 0.03, tongue, 0.75, inside)
            bite = inner_top[3:-3] + f32((0, min(0.036, 0.55 * gap)))
            teeth = np.concatenate((inner_top[3:-3], bite[::-1]))
            frame.paint([teeth], f32((0.93, 0.91, 0.87)) * min(level, 1), 0.92, inside=inside, blur=0.003)
        lips = who.lips * self.light.tint
        frame.paint([np.concatenate((outer_top, inner_top[::-1]))], 0.84 * lips, 0.92, shade=self.shade, blur=0.004)
        frame.paint([np.concatenate((inner_low, outer_low[::-1]))], lips, 0.92, shade=self.shade, blur=0.005)
        shine = 0.2 * w * float(self.light.direction[0])
        frame.spot(shine, float(low[8]) + 0.45 * lower, 0.35 * w, 0.25 * lower, np.full(3, level), 0.20)
        seam = [inner_top, inner_low] if parted else [inner_top]
        frame.paint(seam, f32((0.22, 0.07, 0.07)) * level, 0.75, width=0.011)
        dimple = ellipse(1.03 * w, float(corner[-1]), 0.020, 0.017, 10)
        frame.paint(both(dimple), self.shadow, 0.5, blur=0.010)


def background(rng: np.random.Generator, scale: float) -> Array:
    """A background layer (side, side, 3): gradient, bokeh, stripes or the wall of a room."""
    first, second = near_colour(rng, ROOM, 0.05), near_colour(rng, ROOM, 0.05)
    layer = Layer(load_cv2(), scale, first)
    x, y = layer.grid()
    angle = float(rng.uniform(0, 2 * np.pi))
    ramp = np.clip(0.5 + 0.45 * (float(np.cos(angle)) * x + float(np.sin(angle)) * y), 0, 1)
    layer.blend((slice(None), slice(None)), f32(ramp), second)
    kind = ("gradient", "bokeh", "stripes", "room")[int(rng.integers(4))]
    if kind == "bokeh":
        layer.rgb *= 0.55
        for _ in range(int(rng.integers(10, 22))):
            px, py, r, opacity = (float(v) for v in rng.uniform((-1.2, -1.2, 0.06, 0.25), (1.2, 1.2, 0.22, 0.7)))
            tint = np.clip(1.25 * near_colour(rng, ROOM, 0.15) + 0.1, 0, 1)
            layer.paint([ellipse(px, py, r, r)], tint, opacity, blur=0.02)
    elif kind == "stripes":
        turn = float(rng.uniform(-0.5, 0.5) + rng.integers(2) * np.pi / 2)
        rate, dip = float(2 * np.pi / rng.uniform(0.18, 0.5)), float(rng.uniform(0.1, 0.35))
        wave = np.sin(rate * (float(np.cos(turn)) * x + float(np.sin(turn)) * y))
        layer.rgb *= (1 - dip * (0.5 + 0.5 * np.tanh(wave / 0.3)))[..., None]
    elif kind == "room":
        corners = f32([(-1, -1), (1, -1), (1, 1), (-1, 1)])
        for _ in range(int(rng.integers(2, 5))):
            px, py, w, h = rng.uniform((-1.1, -1.1, 0.15, 0.15), (1.1, 0.5, 0.5, 0.6))
            layer.paint([corners * f32((w, h)) + f32((px, py))], 0.45 * first, blur=0.018)
            inner = np.clip(1.15 * near_colour(rng, ROOM, 0.06), 0, 1)
            layer.paint([0.90 * corners * f32((w, h)) + f32((px, py))], inner, blur=0.018)
        floor = float(rng.uniform(0.5, 1.0))
        layer.paint([f32([(-1.3, floor), (1.3, floor), (1.3, 1.3), (-1.3, 1.3)])], 0.6 * second, blur=0.018)
    return layer.rgb
