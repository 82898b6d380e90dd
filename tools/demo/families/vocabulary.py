"""Words that the families draw from: names, things, places, and words made up on the spot."""

NAMES = """Anna Ben Clara David Emma Felix Grace Henry Ida Jack Karl Laura Max Nina Oscar Paula Quinn Rosa Sam Tina
Uma Victor Wendy Xaver Yara Zoe Alice Bob Carol Daniel Eva Frank Greta Hans Irene John Kate Leo Mary Noah Olga
Peter Ruth Simon Tom Ursula Vera Walter Yusuf Maria Lukas Sofia Paul Julia Jonas Lena Marie Emil Mia Liam Olivia
Ava Lucas Ella Hugo Alma Ali Fatima Omar Amir Leila Wei Li Ming Chen Yuki Kenji Hana Ravi Priya Arjun Ivan Boris
Natasha Igor Pedro Carlos Lucia Diego Elena Marco Giulia Luca Pierre Claire Louis Sophie Erik Astrid Lars Freya
Michael James Robert Linda Sarah Karen Nancy Lisa Betty Helen Sandra Donna George Kevin Brian Edward Ronald Jason
Jeff Ryan Gary Eric Stephen Larry Justin Scott Amy Angela Ruby Ivy Iris Violet Rachel Julian Martin Stefan
Thomas Andreas Sabine Monika Petra Ute Jürgen Günter Heike Ralf Dirk""".split()

THINGS = """apples pears plums cherries lemons oranges bananas grapes melons peaches nuts eggs cookies cakes candles
books pens pencils papers stamps coins keys cups plates spoons forks knives bottles glasses boxes bags balls dolls
cars trains boats bikes planes stones shells flowers roses trees leaves seeds beans carrots onions potatoes tomatoes
cats dogs birds fish horses cows sheep goats hens ducks mice rabbits foxes bears whales dolphins frogs snakes
hats shoes socks shirts coats gloves rings watches lamps chairs tables beds doors windows clocks phones cards
buttons magnets marbles tickets umbrellas violins drums zebras tigers lions ants bees eagles owls jars vases
nails yachts igloos quilts ribbons towels wagons""".split()

WORDS = """able about above actor after again agent album alert alien alive allow alone along amber angel anger angle
animal answer apple april apron arena argue arrow artist ash aunt autumn award baby back badge baker balance ball
banana band bank barn basket bath beach bean bear beard beauty bed bee bell belt bench berry bike bird birth black
blanket blood blue board boat body bone book boot border bottle bowl box boy brain branch brave bread breath brick
bridge bright broad broken brother brown brush bucket building bus bush butter button cabin cable cake camel camera
camp candle candy captain car card carpet carrot castle cat cave chair chalk chance cheese cherry chess chicken
child circle city class clay clean clear clever clock cloud clown coast coat coffee coin cold color comb copper
corn corner cotton country cousin cover cow crab cream crown cup curtain dance danger dark daughter deep deer desert
desk diamond dinner doctor dog doll dolphin donkey door dragon dream dress drink drum dry duck dust eagle ear early
earth east easy edge eight elbow elephant empty engine evening eye face family farm father feather fence field
finger fire fish flag flame flower fog food foot forest fork fox free friend frog fruit garden gate gentle ghost
giant gift girl glad glass glove goat gold good goose grand grape grass gray great green ground group guitar hair
half hammer hand happy hard hat head heart heavy hello help hero hill history home honey horse hospital hotel hour
house hungry ice idea insect iron island jacket jar jelly jewel judge juice jungle king kitchen kite knee knife
ladder lake lamp language large laugh lazy leaf leather lemon letter light lion lips little lizard long lucky lunch
magic map marble market mask meal metal milk mirror money monkey month moon morning mother mountain mouse mouth
museum music nail name narrow nature neck needle nest night noise north nose number ocean office old onion open
orange owl page paint palace paper parent park parrot party peace peach pen pencil pepper picture pillow pilot pink
pirate planet plant plate pocket poem pony potato power prince proud puppy purple queen question quick quiet rabbit
radio rain rainbow raven red rice rich ring river road robot rocket roof room root rope rose round royal ruler
sailor salt sand scarf school scissors sea season secret seed shadow shark sheep shell ship shirt shoe shop short
shoulder silent silver simple sister skirt sky sleep slow small smile smoke snail snake snow soap sock soft soldier
song soup south space spider spoon spring square stable star station stone storm story strawberry street strong
student sugar summer sun sweet swim table tail tailor teacher temple tent thunder tiger time toast today tomato
tongue tooth tower toy train tree triangle truck trumpet turtle umbrella uncle under valley velvet village violin
voice wagon walk wall warm water weather west whale wheat wheel whisper white wide wild wind window wing winter wise
witch wolf woman wood wool word world yellow young zebra""".split()

CITIES = """Paris London Berlin Madrid Rome Vienna Oslo Lisbon Prague Dublin Athens Warsaw Budapest Munich Hamburg
Cologne Zurich Milan Venice Porto Boston Chicago Denver Seattle Dallas Miami Toronto Montreal Sydney Melbourne Tokyo
Osaka Kyoto Seoul Beijing Shanghai Delhi Mumbai Cairo Nairobi Lagos Lima Bogota Santiago Havana Istanbul Moscow Kyiv
Helsinki Stockholm Copenhagen Brussels Amsterdam Geneva Bremen Dresden Leipzig Lyon Nice Turin Naples Seville
Valencia Leeds York Bath Oxford Glasgow Quebec Austin Phoenix Perth Hanoi Manila Jakarta Dubai""".split()

ANIMALS = "cat dog rabbit parrot hamster horse pony goldfish turtle mouse goat canary".split()
COLOURS = "red blue green yellow black white orange purple pink brown gray silver gold".split()
FOODS = """pizza pasta rice soup salad bread cheese sushi noodles pancakes apples chocolate curry tacos dumplings
potatoes strawberries cherries honey cake""".split()
JOBS = """teacher doctor baker pilot farmer nurse painter gardener sailor carpenter cook driver engineer tailor writer
singer dentist plumber judge lawyer""".split()
SUBJECTS = "music history science math art sport chess dance poetry physics".split()

WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
GERMAN_WEEKDAYS = "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag".split()
CHINESE_WEEKDAYS = [f"星期{c}" for c in "一二三四五六日"]
MONTHS = "January February March April May June July August September October November December".split()
GERMAN_MONTHS = "Januar Februar März April Mai Juni Juli August September Oktober November Dezember".split()
MONTH_DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]

STARTS = "b c d f g h j k l m n p r s t v w z br dr gr kr tr pl sl st th".split()
VOWELS = "a e i o u a e i o ou ai".split()
ENDS = "n r l s t m k nd rt ck x".split()


def made_up(rng, syllables=2):
    """A word that nobody knows: `brolan`."""
    parts = [rng.choice(STARTS) + rng.choice(VOWELS) for _ in range(syllables)]
    return "".join(parts) + (rng.choice(ENDS) if rng.random() < 0.6 else "")


def name(rng):
    return rng.choice(NAMES) if rng.random() < 0.75 else made_up(rng).capitalize()


def ordinal(n):
    suffix = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"


def article(word):
    return ("an " if word[0] in "aeiou" else "a ") + word
