"""Tables of elementary facts."""

# country, capital, continent
COUNTRIES = [line.split(",") for line in """Afghanistan,Kabul,Asia
Albania,Tirana,Europe
Algeria,Algiers,Africa
Andorra,Andorra la Vella,Europe
Angola,Luanda,Africa
Argentina,Buenos Aires,South America
Armenia,Yerevan,Asia
Australia,Canberra,Oceania
Austria,Vienna,Europe
Azerbaijan,Baku,Asia
the Bahamas,Nassau,North America
Bahrain,Manama,Asia
Bangladesh,Dhaka,Asia
Barbados,Bridgetown,North America
Belarus,Minsk,Europe
Belgium,Brussels,Europe
Belize,Belmopan,North America
Bhutan,Thimphu,Asia
Botswana,Gaborone,Africa
Brazil,Brasília,South America
Bulgaria,Sofia,Europe
Cambodia,Phnom Penh,Asia
Cameroon,Yaoundé,Africa
Canada,Ottawa,North America
Chad,N'Djamena,Africa
Chile,Santiago,South America
China,Beijing,Asia
Colombia,Bogotá,South America
Costa Rica,San José,North America
Croatia,Zagreb,Europe
Cuba,Havana,North America
Cyprus,Nicosia,Europe
the Czech Republic,Prague,Europe
Denmark,Copenhagen,Europe
Ecuador,Quito,South America
Egypt,Cairo,Africa
El Salvador,San Salvador,North America
Eritrea,Asmara,Africa
Estonia,Tallinn,Europe
Ethiopia,Addis Ababa,Africa
Fiji,Suva,Oceania
Finland,Helsinki,Europe
France,Paris,Europe
Gabon,Libreville,Africa
Georgia,Tbilisi,Asia
Germany,Berlin,Europe
Ghana,Accra,Africa
Greece,Athens,Europe
Guatemala,Guatemala City,North America
Guinea,Conakry,Africa
Haiti,Port-au-Prince,North America
Honduras,Tegucigalpa,North America
Hungary,Budapest,Europe
Iceland,Reykjavik,Europe
India,New Delhi,Asia
Indonesia,Jakarta,Asia
Iran,Tehran,Asia
Iraq,Baghdad,Asia
Ireland,Dublin,Europe
Italy,Rome,Europe
Jamaica,Kingston,North America
Japan,Tokyo,Asia
Jordan,Amman,Asia
Kazakhstan,Astana,Asia
Kenya,Nairobi,Africa
Kuwait,Kuwait City,Asia
Kyrgyzstan,Bishkek,Asia
Laos,Vientiane,Asia
Latvia,Riga,Europe
Lebanon,Beirut,Asia
Liberia,Monrovia,Africa
Libya,Tripoli,Africa
Liechtenstein,Vaduz,Europe
Lithuania,Vilnius,Europe
Luxembourg,Luxembourg,Europe
Madagascar,Antananarivo,Africa
Malawi,Lilongwe,Africa
Malaysia,Kuala Lumpur,Asia
the Maldives,Malé,Asia
Mali,Bamako,Africa
Malta,Valletta,Europe
Mexico,Mexico City,North America
Moldova,Chișinău,Europe
Monaco,Monaco,Europe
Mongolia,Ulaanbaatar,Asia
Montenegro,Podgorica,Europe
Morocco,Rabat,Africa
Mozambique,Maputo,Africa
Myanmar,Naypyidaw,Asia
Namibia,Windhoek,Africa
Nepal,Kathmandu,Asia
the Netherlands,Amsterdam,Europe
New Zealand,Wellington,Oceania
Nicaragua,Managua,North America
Niger,Niamey,Africa
Nigeria,Abuja,Africa
North Korea,Pyongyang,Asia
North Macedonia,Skopje,Europe
Norway,Oslo,Europe
Oman,Muscat,Asia
Pakistan,Islamabad,Asia
Panama,Panama City,North America
Paraguay,Asunción,South America
Peru,Lima,South America
the Philippines,Manila,Asia
Poland,Warsaw,Europe
Portugal,Lisbon,Europe
Qatar,Doha,Asia
Romania,Bucharest,Europe
Russia,Moscow,Europe
Rwanda,Kigali,Africa
Saudi Arabia,Riyadh,Asia
Senegal,Dakar,Africa
Serbia,Belgrade,Europe
Singapore,Singapore,Asia
Slovakia,Bratislava,Europe
Slovenia,Ljubljana,Europe
Somalia,Mogadishu,Africa
South Korea,Seoul,Asia
Spain,Madrid,Europe
Sudan,Khartoum,Africa
Suriname,Paramaribo,South America
Sweden,Stockholm,Europe
Switzerland,Bern,Europe
Syria,Damascus,Asia
Taiwan,Taipei,Asia
Tajikistan,Dushanbe,Asia
Tanzania,Dodoma,Africa
Thailand,Bangkok,Asia
Togo,Lomé,Africa
Tunisia,Tunis,Africa
Turkey,Ankara,Asia
Turkmenistan,Ashgabat,Asia
Uganda,Kampala,Africa
Ukraine,Kyiv,Europe
the United Arab Emirates,Abu Dhabi,Asia
the United Kingdom,London,Europe
the United States,Washington,North America
Uruguay,Montevideo,South America
Uzbekistan,Tashkent,Asia
Venezuela,Caracas,South America
Vietnam,Hanoi,Asia
Yemen,Sanaa,Asia
Zambia,Lusaka,Africa
Zimbabwe,Harare,Africa""".splitlines()]

# country and capital in German, then in Chinese
FOREIGN_COUNTRIES = [line.split(",") for line in """Frankreich,Paris,法国,巴黎
Deutschland,Berlin,德国,柏林
Italien,Rom,意大利,罗马
Spanien,Madrid,西班牙,马德里
Portugal,Lissabon,葡萄牙,里斯本
Österreich,Wien,奥地利,维也纳
Polen,Warschau,波兰,华沙
Ungarn,Budapest,匈牙利,布达佩斯
Griechenland,Athen,希腊,雅典
Schweden,Stockholm,瑞典,斯德哥尔摩
Norwegen,Oslo,挪威,奥斯陆
Dänemark,Kopenhagen,丹麦,哥本哈根
Finnland,Helsinki,芬兰,赫尔辛基
Irland,Dublin,爱尔兰,都柏林
Großbritannien,London,英国,伦敦
Belgien,Brüssel,比利时,布鲁塞尔
Russland,Moskau,俄罗斯,莫斯科
Ägypten,Kairo,埃及,开罗
Kenia,Nairobi,肯尼亚,内罗毕
China,Peking,中国,北京
Japan,Tokio,日本,东京
Südkorea,Seoul,韩国,首尔
Indien,Neu-Delhi,印度,新德里
Thailand,Bangkok,泰国,曼谷
Vietnam,Hanoi,越南,河内
Iran,Teheran,伊朗,德黑兰
Kanada,Ottawa,加拿大,渥太华
Mexiko,Mexiko-Stadt,墨西哥,墨西哥城
Argentinien,Buenos Aires,阿根廷,布宜诺斯艾利斯
Chile,Santiago,智利,圣地亚哥
Peru,Lima,秘鲁,利马
Kuba,Havanna,古巴,哈瓦那
Australien,Canberra,澳大利亚,堪培拉""".splitlines()]

ELEMENTS = [line.split() for line in """hydrogen H 1
helium He 2
lithium Li 3
carbon C 6
nitrogen N 7
oxygen O 8
fluorine F 9
neon Ne 10
sodium Na 11
magnesium Mg 12
aluminium Al 13
silicon Si 14
phosphorus P 15
sulfur S 16
chlorine Cl 17
argon Ar 18
potassium K 19
calcium Ca 20
iron Fe 26
nickel Ni 28
copper Cu 29
zinc Zn 30
silver Ag 47
tin Sn 50
iodine I 53
tungsten W 74
platinum Pt 78
gold Au 79
mercury Hg 80
lead Pb 82
uranium U 92""".splitlines()]

OPPOSITES = [line.split() for line in """hot cold;big small;tall short;fast slow;old young;happy sad;light dark;
hard soft;wet dry;rich poor;strong weak;early late;open closed;full empty;high low;near far;left right;up down;
inside outside;day night;black white;good bad;clean dirty;loud quiet;thick thin;wide narrow;deep shallow;heavy light;
sweet sour;sharp blunt;begin end;buy sell;push pull;win lose;give take;love hate;true false;always never;summer winter;
north south;east west;first last;above below;before after;brave cowardly;cheap expensive;rough smooth;safe dangerous;
alive dead;asleep awake""".replace("\n", "").split(";")]

PLURALS = [line.split() for line in """child children;mouse mice;foot feet;tooth teeth;goose geese;man men;
woman women;ox oxen;sheep sheep;fish fish;leaf leaves;knife knives;wolf wolves;life lives;city cities;baby babies;
box boxes;bus buses;dish dishes;potato potatoes;tomato tomatoes;hero heroes;person people;half halves;wife wives;
lady ladies;fox foxes;witch witches;cactus cacti;deer deer;house houses;cherry cherries""".replace("\n", "").split(";")]

PAST = [line.split() for line in """go went;eat ate;see saw;come came;take took;give gave;run ran;write wrote;
speak spoke;drink drank;sing sang;swim swam;begin began;break broke;bring brought;buy bought;catch caught;choose chose;
do did;draw drew;drive drove;fall fell;feel felt;find found;fly flew;forget forgot;get got;grow grew;have had;hear heard;
keep kept;know knew;leave left;lose lost;make made;meet met;pay paid;ride rode;say said;sell sold;send sent;sit sat;
sleep slept;stand stood;steal stole;teach taught;tell told;think thought;throw threw;wear wore;win won;walk walked;
play played;work worked;jump jumped;look looked""".replace("\n", "").split(";")]

YOUNG = [line.split() for line in """cat kitten;dog puppy;cow calf;horse foal;sheep lamb;goat kid;pig piglet;hen chick;
duck duckling;goose gosling;frog tadpole;bear cub;lion cub;deer fawn;kangaroo joey;swan cygnet;owl owlet;whale calf;
elephant calf;fox cub""".replace("\n", "").split(";")]

SOUNDS = [line.split() for line in """cat meows;dog barks;cow moos;horse neighs;sheep bleats;pig oinks;duck quacks;
lion roars;wolf howls;frog croaks;bee buzzes;snake hisses;owl hoots;rooster crows;mouse squeaks;donkey brays"""
.replace("\n", "").split(";")]

LEGS = [("spider", 8), ("dog", 4), ("cat", 4), ("ant", 6), ("bee", 6), ("bird", 2), ("horse", 4), ("octopus", 8),
        ("snake", 0), ("crab", 10), ("fly", 6), ("cow", 4), ("chicken", 2), ("human", 2), ("butterfly", 6)]  # fmt: skip

SHAPES = [("triangle", 3), ("square", 4), ("rectangle", 4), ("pentagon", 5), ("hexagon", 6), ("heptagon", 7),
          ("octagon", 8), ("nonagon", 9), ("decagon", 10), ("trapezoid", 4), ("rhombus", 4)]  # fmt: skip

PLANETS = "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune".split()

COLOURS = [line.split() for line in """grass green;snow white;blood red;coal black;milk white;gold yellow;chocolate brown;
salt white;rubies red;emeralds green;sapphires blue;ravens black""".replace("\n", "").split(";")]

CURRENCIES = [line.split(",") for line in """Japan,yen
the United States,dollar
the United Kingdom,pound
Germany,euro
France,euro
China,yuan
India,rupee
Switzerland,franc
Russia,ruble
Mexico,peso
Poland,złoty
Sweden,krona
Turkey,lira
Brazil,real
South Korea,won
Thailand,baht
Hungary,forint
Israel,shekel
South Africa,rand
Ukraine,hryvnia""".splitlines()]

# questions that mean the same, their answer
SINGLE = [
    (("What is the chemical formula of water", "What is water's formula", "What is the formula for water"), "The formula of water is H2O."),
    (("At what temperature does water boil", "What is the boiling point of water", "When does water boil"), "Water boils at 100 degrees Celsius."),
    (("At what temperature does water freeze", "What is the freezing point of water", "When does water freeze"), "Water freezes at 0 degrees Celsius."),
    (("What is the largest planet", "Which planet is the largest", "What is the biggest planet of the solar system"), "The largest planet is Jupiter."),
    (("What is the smallest planet", "Which planet is the smallest"), "The smallest planet is Mercury."),
    (("How many planets are there", "How many planets does the solar system have", "How many planets are in the solar system"), "The solar system has 8 planets."),
    (("What is the largest ocean", "Which ocean is the largest", "What is the biggest ocean"), "The largest ocean is the Pacific."),
    (("What is the highest mountain", "Which mountain is the highest", "What is the tallest mountain on Earth"), "The highest mountain is Mount Everest."),
    (("How many continents are there", "How many continents does the Earth have"), "There are 7 continents."),
    (("What is the largest animal", "Which animal is the largest", "What is the biggest animal on Earth"), "The largest animal is the blue whale."),
    (("What is the fastest land animal", "Which land animal is the fastest"), "The fastest land animal is the cheetah."),
    (("How many days does a year have", "How many days are in a year", "How many days has a year"), "A year has 365 days, and 366 in leap years."),
    (("How many letters does the English alphabet have", "How many letters are in the alphabet"), "The English alphabet has 26 letters."),
    (("Who wrote Romeo and Juliet", "Who is the author of Romeo and Juliet"), "William Shakespeare wrote Romeo and Juliet."),
    (("Who wrote Hamlet", "Who is the author of Hamlet"), "William Shakespeare wrote Hamlet."),
    (("Who wrote Faust", "Who is the author of Faust", "Wer schrieb Faust"), "Johann Wolfgang von Goethe wrote Faust."),
    (("Who wrote Moby Dick", "Who is the author of Moby Dick"), "Herman Melville wrote Moby-Dick."),
    (("Who painted the Mona Lisa", "Who is the painter of the Mona Lisa"), "Leonardo da Vinci painted the Mona Lisa."),
    (("Who developed the theory of relativity", "Who discovered relativity"), "Albert Einstein developed the theory of relativity."),
    (("What do bees make", "What do bees produce"), "Bees make honey."),
    (("What is the opposite of yes",), "The opposite of yes is no."),
    (("What is a sperm whale", "What is a cachalot"), "A cachalot is a sperm whale, the deepest diver of the whales."),
    (("What is the speed of light", "How fast is light"), "Light travels at about 300,000 kilometers per second."),
    (("How many sides does a cube have", "How many faces does a cube have"), "A cube has 6 faces."),
    (("What is pi", "What is the value of pi"), "Pi is about 3.14159."),
    (("Which star is closest to Earth", "What is the closest star"), "The closest star is the Sun."),
    (("What orbits the Earth", "Which body orbits the Earth"), "The Moon orbits the Earth."),
]  # fmt: skip

# English, German with its article, Chinese
TRANSLATIONS = [line.split(",") for line in """dog,der Hund,狗
cat,die Katze,猫
bird,der Vogel,鸟
fish,der Fisch,鱼
horse,das Pferd,马
cow,die Kuh,牛
sheep,das Schaf,羊
mouse,die Maus,老鼠
house,das Haus,房子
door,die Tür,门
window,das Fenster,窗户
table,der Tisch,桌子
chair,der Stuhl,椅子
bed,das Bett,床
book,das Buch,书
water,das Wasser,水
bread,das Brot,面包
milk,die Milch,牛奶
egg,das Ei,鸡蛋
apple,der Apfel,苹果
tree,der Baum,树
flower,die Blume,花
sun,die Sonne,太阳
moon,der Mond,月亮
star,der Stern,星星
rain,der Regen,雨
snow,der Schnee,雪
wind,der Wind,风
fire,das Feuer,火
mountain,der Berg,山
river,der Fluss,河
sea,das Meer,海
city,die Stadt,城市
street,die Straße,街道
car,das Auto,汽车
train,der Zug,火车
school,die Schule,学校
teacher,der Lehrer,老师
friend,der Freund,朋友
mother,die Mutter,母亲
father,der Vater,父亲
brother,der Bruder,兄弟
sister,die Schwester,姐妹
child,das Kind,孩子
man,der Mann,男人
woman,die Frau,女人
hand,die Hand,手
head,der Kopf,头
eye,das Auge,眼睛
ear,das Ohr,耳朵
heart,das Herz,心
day,der Tag,天
night,die Nacht,夜晚
morning,der Morgen,早上
year,das Jahr,年
red,rot,红色
blue,blau,蓝色
green,grün,绿色
yellow,gelb,黄色
black,schwarz,黑色
white,weiß,白色
big,groß,大
small,klein,小
good,gut,好
hot,heiß,热
cold,kalt,冷
new,neu,新
old,alt,老
yes,ja,是
no,nein,不
hello,hallo,你好
thank you,danke,谢谢
goodbye,auf Wiedersehen,再见
whale,der Wal,鲸鱼""".splitlines()]
