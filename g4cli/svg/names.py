"""The names of SVG 1.1 and 2: elements, attributes, namespaces and colors.

Sources: the tables of the HTML standard, section 13.2.6 ("adjust SVG attributes", "adjust foreign
attributes", and "any other start tag" in foreign content); SVG 2, appendix "Element Index" and
"Presentation attributes".
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final


def _split_words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SVG_NAMESPACE: Final = "http://www.w3.org/2000/svg"
XLINK_NAMESPACE: Final = "http://www.w3.org/1999/xlink"

# The namespaces of common prefixes, most of them from editors.
NAMESPACES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "svg": SVG_NAMESPACE,
        "xlink": XLINK_NAMESPACE,
        "cc": "http://creativecommons.org/ns#",
        "dc": "http://purl.org/dc/elements/1.1/",
        "inkscape": "http://www.inkscape.org/namespaces/inkscape",
        "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
        "serif": "http://www.serif.com/",
        "sketch": "http://www.bohemiancoding.com/sketch/ns",
        "sodipodi": "http://sodipodi.sourceforge.net/DTD/sodipodi-0.dtd",
    }
)

ANIMATIONS: Final = frozenset(
    ("animate", "animateColor", "animateMotion", "animateTransform", "discard", "set")
)
DESCRIPTIONS: Final = frozenset(("desc", "metadata", "title"))
SHAPES: Final = frozenset(("circle", "ellipse", "line", "path", "polygon", "polyline", "rect"))
# Elements that have no children but animations and descriptions.
LEAVES: Final = SHAPES | _split_words(
    """image use stop animate animateColor animateTransform discard set mpath feBlend
    feColorMatrix feComposite feConvolveMatrix feDisplacementMap feDistantLight feDropShadow
    feFlood feFuncA feFuncB feFuncG feFuncR feGaussianBlur feImage feMergeNode feMorphology
    feOffset fePointLight feSpotLight feTile feTurbulence"""
)
TEXTS: Final = frozenset(("text", "textPath", "tspan"))
GRADIENTS: Final = frozenset(("linearGradient", "radialGradient"))
# Elements whose content is text, never elements that are drawn.
CHARACTERS_ONLY: Final = frozenset(("desc", "style", "title"))

ELEMENTS: Final = (
    ANIMATIONS | DESCRIPTIONS | LEAVES | TEXTS | GRADIENTS | CHARACTERS_ONLY
    | _split_words(
    """a altGlyph altGlyphDef altGlyphItem clipPath color-profile cursor defs feComponentTransfer
    feDiffuseLighting feMerge feSpecularLighting filter font font-face font-face-format
    font-face-name font-face-src font-face-uri foreignObject g glyph glyphRef hatch hatchpath
    hkern marker mask mesh meshgradient meshpatch meshrow missing-glyph pattern script
    solidcolor svg switch symbol tref unknown view vkern"""
)
)  # fmt: skip

PRESENTATION: Final = _split_words(
    """alignment-baseline baseline-shift clip clip-path clip-rule color color-interpolation
    color-interpolation-filters color-profile color-rendering cursor direction display
    dominant-baseline enable-background fill fill-opacity fill-rule filter flood-color
    flood-opacity font font-family font-size font-size-adjust font-stretch font-style
    font-variant font-weight glyph-orientation-horizontal glyph-orientation-vertical
    image-rendering isolation kerning letter-spacing lighting-color marker marker-end
    marker-mid marker-start mask mask-type mix-blend-mode opacity overflow paint-order
    pointer-events shape-rendering stop-color stop-opacity stroke stroke-dasharray
    stroke-dashoffset stroke-linecap stroke-linejoin stroke-miterlimit stroke-opacity
    stroke-width text-anchor text-decoration text-overflow text-rendering transform
    transform-origin unicode-bidi vector-effect visibility white-space word-spacing
    writing-mode"""
)
_CAMEL_ATTRIBUTES: Final = _split_words(
    """attributeName attributeType baseFrequency baseProfile calcMode clipPathUnits diffuseConstant
    edgeMode filterUnits glyphRef gradientTransform gradientUnits kernelMatrix
    kernelUnitLength keyPoints keySplines keyTimes lengthAdjust limitingConeAngle markerHeight
    markerUnits markerWidth maskContentUnits maskUnits numOctaves pathLength
    patternContentUnits patternTransform patternUnits pointsAtX pointsAtY pointsAtZ
    preserveAlpha preserveAspectRatio primitiveUnits refX refY repeatCount repeatDur
    requiredExtensions requiredFeatures specularConstant specularExponent spreadMethod
    startOffset stdDeviation stitchTiles surfaceScale systemLanguage tableValues targetX
    targetY textLength viewBox viewTarget xChannelSelector yChannelSelector zoomAndPan"""
)
_PREFIXED_ATTRIBUTES: Final = _split_words(
    """xlink:actuate xlink:arcrole xlink:href xlink:role xlink:show xlink:title xlink:type
    xml:lang xml:space xmlns:xlink"""
)
ATTRIBUTES: Final = PRESENTATION | _CAMEL_ATTRIBUTES | _PREFIXED_ATTRIBUTES | _split_words(
    """accumulate additive amplitude azimuth begin bias by class cx cy d divisor dur dx dy elevation
    end exponent fr from fx fy height href id in in2 intercept k k1 k2 k3 k4 lang max media
    min mode name offset operator order orient origin path points r radius restart result
    rotate rx ry scale seed side slope spacing style tabindex target to type values version
    width x x1 x2 xmlns y y1 y2 z"""
)  # fmt: skip

_LOWER_ELEMENTS: Final = MappingProxyType({name.lower(): name for name in sorted(ELEMENTS)})
_LOWER_ATTRIBUTES: Final = MappingProxyType({name.lower(): name for name in sorted(ATTRIBUTES)})
_JSX_ATTRIBUTES: Final = MappingProxyType(
    {"classname": "class"} | {name.replace(":", ""): name for name in _PREFIXED_ATTRIBUTES}
)

# HTML elements that end an <svg> in a web page (HTML standard, 13.2.6.5), and <html>. None of them
# is part of SVG. safety.py removes two more of that list, <embed> and <meta>, as active content.
HTML_ELEMENTS: Final = _split_words(
    """b big blockquote body br center code dd div dl dt em h1 h2 h3 h4 h5 h6 head hr html i img li
    listing menu nobr ol p pre ruby s small span strong strike sub sup table tt u ul var"""
)

# All words that a paint or a color may be, in lower case: CSS Color 4, "Named Colors", then
# `transparent`, `currentcolor` and SVG 2's `none`; the keywords that every CSS property takes (CSS
# Cascade 5); SVG 2's `context-fill` and `context-stroke`; CSS Color 4, "System Colors"; and from
# `activeborder` on "Deprecated CSS System Colors".
PAINT_WORDS: Final = _split_words(
    """aliceblue antiquewhite aqua aquamarine azure beige bisque black blanchedalmond blue
    blueviolet brown burlywood cadetblue chartreuse chocolate coral cornflowerblue cornsilk crimson
    cyan darkblue darkcyan darkgoldenrod darkgray darkgreen darkgrey darkkhaki darkmagenta
    darkolivegreen darkorange darkorchid darkred darksalmon darkseagreen darkslateblue
    darkslategray darkslategrey darkturquoise darkviolet deeppink deepskyblue dimgray dimgrey
    dodgerblue firebrick floralwhite forestgreen fuchsia gainsboro ghostwhite gold goldenrod gray
    green greenyellow grey honeydew hotpink indianred indigo ivory khaki lavender lavenderblush
    lawngreen lemonchiffon lightblue lightcoral lightcyan lightgoldenrodyellow lightgray
    lightgreen lightgrey lightpink lightsalmon lightseagreen lightskyblue lightslategray
    lightslategrey lightsteelblue lightyellow lime limegreen linen magenta maroon
    mediumaquamarine mediumblue mediumorchid mediumpurple mediumseagreen mediumslateblue
    mediumspringgreen mediumturquoise mediumvioletred midnightblue mintcream mistyrose moccasin
    navajowhite navy oldlace olive olivedrab orange orangered orchid palegoldenrod palegreen
    paleturquoise palevioletred papayawhip peachpuff peru pink plum powderblue purple
    rebeccapurple red rosybrown royalblue saddlebrown salmon sandybrown seagreen seashell sienna
    silver skyblue slateblue slategray slategrey snow springgreen steelblue tan teal thistle
    tomato turquoise violet wheat white whitesmoke yellow yellowgreen transparent currentcolor
    none inherit initial unset revert revert-layer context-fill context-stroke
    accentcolor accentcolortext activetext
    buttonborder buttonface buttontext canvas canvastext field fieldtext graytext highlight
    highlighttext linktext mark marktext selecteditem selecteditemtext visitedtext
    activeborder activecaption appworkspace background buttonhighlight buttonshadow captiontext
    inactiveborder inactivecaption inactivecaptiontext infobackground infotext menu menutext
    scrollbar threeddarkshadow threedface threedhighlight threedlightshadow threedshadow window
    windowframe windowtext"""
)


def local_name(name: str) -> str:
    """Return a name without its namespace prefix."""
    return name.rpartition(":")[2]


def canonical_element(name: str) -> str:
    """Return an element's name in SVG's spelling, or `name` if SVG has no such element."""
    prefix, colon, local = name.rpartition(":")
    return (
        prefix + colon + (local if local in ELEMENTS else _LOWER_ELEMENTS.get(local.lower(), local))
    )


def canonical_attribute(name: str) -> str:
    """Return an attribute's name in SVG's spelling, or `name` if SVG has no such attribute.

    It corrects the case (viewbox) and the names of React's JSX: strokeWidth, className, xlinkHref.
    """
    if name in ATTRIBUTES:
        return name
    if name.lower() in _LOWER_ATTRIBUTES:
        return _LOWER_ATTRIBUTES[name.lower()]
    if name.lower() in _JSX_ATTRIBUTES:
        return _JSX_ATTRIBUTES[name.lower()]
    hyphened = "".join(f"-{char.lower()}" if char.isupper() else char for char in name)
    return hyphened if hyphened in PRESENTATION else name
