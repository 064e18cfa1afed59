//! Vocabulary that the tasks draw from.

pub(crate) const COMMON: &[&str] = &[
    "apple", "arrow", "autumn", "badge", "ball", "bank", "basket", "beach", "bell", "bench",
    "bird", "blanket", "boat", "book", "bottle", "box", "branch", "bread", "bridge", "brush",
    "bucket", "button", "cabin", "cake", "camera", "candle", "carpet", "castle", "chair", "cherry",
    "circle", "clock", "cloud", "coat", "coffee", "coin", "corner", "cotton", "cup", "desk",
    "diamond", "door", "dragon", "dream", "drum", "engine", "feather", "field", "finger", "fire",
    "flag", "flower", "forest", "fork", "fountain", "garden", "gate", "ghost", "glass", "glove",
    "gold", "grain", "guitar", "hammer", "harbor", "hat", "helmet", "hill", "honey", "horse",
    "house", "island", "jacket", "jewel", "juice", "jungle", "kettle", "kitchen", "kite", "ladder",
    "lake", "lamp", "leaf", "lemon", "letter", "light", "lion", "lock", "machine", "magnet", "map",
    "marble", "market", "meadow", "melon", "metal", "milk", "mirror", "moon", "morning",
    "mountain", "museum", "needle", "night", "north", "ocean", "olive", "onion", "orange",
    "orchard", "paint", "palace", "paper", "parcel", "pencil", "pepper", "piano", "picture",
    "pillow", "planet", "plate", "pocket", "pond", "potato", "puzzle", "queen", "rabbit", "radio",
    "rain", "ribbon", "rice", "ring", "river", "road", "robot", "rocket", "roof", "rope", "rose",
    "salt", "sand", "school", "shadow", "shell", "ship", "shirt", "signal", "silver", "snow",
    "soap", "song", "spoon", "spring", "square", "stone", "storm", "street", "sugar", "summer",
    "sun", "table", "tea", "thread", "ticket", "tiger", "tower", "train", "tree", "trumpet",
    "tunnel", "valley", "violin", "wagon", "wall", "water", "whale", "wheel", "window", "winter",
    "wolf", "wood", "yard", "zebra",
];

pub(crate) const NAMES: &[&str] = &[
    "Ada", "Alan", "Amir", "Anna", "Ben", "Carla", "Chen", "Clara", "David", "Elena", "Emma",
    "Eva", "Felix", "Grace", "Hana", "Hugo", "Ida", "Ivan", "Jonas", "Julia", "Kenji", "Lea",
    "Leo", "Lina", "Lucas", "Maria", "Max", "Mia", "Nina", "Noah", "Nora", "Olga", "Omar", "Oscar",
    "Paula", "Peter", "Rosa", "Sara", "Simon", "Sofia", "Tara", "Theo", "Tom", "Vera", "Yuki",
    "Zoe",
];

pub(crate) const COLORS: &[&str] = &[
    "red", "blue", "green", "yellow", "black", "white", "brown", "pink", "purple", "gray",
    "orange", "silver",
];

pub(crate) const CITIES: &[&str] = &[
    "Oslo", "Paris", "Rome", "Lima", "Cairo", "Delhi", "Tokyo", "Berlin", "Madrid", "Quito",
    "Vienna", "Zurich", "Dublin", "Lagos", "Seoul", "Sydney", "Boston", "Dakar", "Athens",
    "Prague",
];

/// Names of fields: for tables and JSON objects.
pub(crate) const FIELDS: &[&str] = &[
    "name", "age", "city", "color", "size", "count", "price", "item", "code", "level", "year",
    "team", "score", "title", "unit", "owner", "total", "rank", "room", "day",
];

pub(crate) const ANIMALS: &[&str] = &[
    "fox", "bear", "owl", "cat", "dog", "mouse", "frog", "goat", "duck", "crow", "hare", "deer",
];

pub(crate) const MOODS: &[&str] = &[
    "happy", "tired", "small", "brave", "old", "quiet", "clever", "hungry", "proud", "calm",
];

pub(crate) const DEEDS: &[&str] = &[
    "found", "saw", "took", "hid", "lost", "carried", "painted", "watched", "liked", "moved",
];

pub(crate) const THINGS: &[&str] = &[
    "key", "lamp", "coin", "map", "drum", "boat", "hat", "bell", "stone", "letter", "kite", "cup",
];

pub(crate) const PLACES: &[&str] = &[
    "river", "hill", "house", "forest", "bridge", "tower", "garden", "road", "lake", "barn",
];
