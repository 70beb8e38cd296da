"""What the slots of the templates are filled with: names of rooms, devices, songs and the like.

Written for this sample; the templates themselves leave these lists to each home. Knows nothing of splits.
"""

from __future__ import annotations


def _listed(text: str) -> tuple[str, ...]:
    return tuple(" ".join(value.split()) for value in text.split(","))


# Of the slots that a home fills in, and of those that take any text.
VALUES: dict[str, tuple[str, ...]] = {
    "area": _listed("""
        kitchen, living room, bedroom, bathroom, hallway, garage, office, dining room, basement, attic, nursery,
        laundry room, guest room, balcony, terrace, patio, garden, porch, pantry, study, library, conservatory,
        workshop, utility room, playroom, gym, cellar, entrance hall, cloakroom, dressing room, family room, den,
        sunroom, greenhouse, shed, carport, driveway, back yard, front yard, main bedroom, kids room, media room,
        game room, music room, wine cellar, boiler room, storage room, ensuite, powder room, sauna, pool house,
        mudroom, reading nook, lounge, studio, loft, landing, corridor, server room, craft room, breakfast room,
        home cinema, tool shed, veranda, walk in closet, spare room, lobby, foyer, kitchenette, courtyard"""),
    "floor": _listed("""
        ground, first, second, third, top, upper, lower, fourth, fifth, bottom, main, middle, garden level,
        lower ground, upstairs, downstairs, mezzanine, attic level, basement level, street level, entry level,
        sixth, parking level, roof level, guest level, penthouse"""),
    "light": _listed("""
        reading lamp, floor lamp, ceiling lights, chandelier, night light, desk lamp, fairy lights, bedside lamp,
        string lights, spotlights, led strip, pendant, table lamp, mirror light, christmas tree, lava lamp,
        picture light, counter lights, downlights, wall sconce, flood light, lantern, vanity light, track lights,
        uplighter, salt lamp, stair lights, cabinet lights, globe, neon sign, hexagon panels, corner lamp, torch lamp,
        path lights, closet light, piano lamp, paper lantern, moon lamp, rope light, aquarium light"""),
    "switch": _listed("""
        coffee maker, heated blanket, water pump, kettle, christmas plug, aquarium pump, boiler, toaster, slow cooker,
        sprinkler, dishwasher, dryer, washing machine, rice cooker, pond pump, phone charger, bottle warmer,
        electric fence, towel rail, hot tub, iron, dehydrator, guest wifi, smart plug, heating pad, air fryer,
        waffle maker, fountain, doorbell chime, router, soldering iron, yoghurt maker"""),
    "fan": _listed("""
        ceiling fan, tower fan, desk fan, extractor, box fan, exhaust fan, ventilator, air purifier, pedestal fan,
        window fan, cooker hood, air circulator, whole house fan, bladeless fan, range hood, turbo fan, bath vent"""),
    "cover": _listed("""
        roller blind, awning, left curtain, right curtain, sliding door, skylight, venetian blinds, bay window blind,
        projector screen, sun sail, main gate, side gate, blackout curtain, roman shade, dormer shutter,
        pergola roof, velux, pet flap, storm shutters, french doors, sheer curtain, barn door"""),
    "valve": _listed("""
        water main, gas valve, irrigation valve, drip line, radiator valve, hose tap, zone one, pool inlet,
        lawn sprinkler valve, bypass valve, greenhouse tap, rain barrel outlet"""),
    "lock": _listed("""
        front door, back door, side door, gun safe, letterbox, patio door, bike locker, gate lock, deadbolt,
        wine cabinet, medicine cabinet, cellar door, fire exit, holiday cottage, main entrance, strong box,
        tool cabinet, liquor cabinet"""),
    "climate": _listed("""
        thermostat, air conditioner, heat pump, radiator, underfloor heating, mini split, wood stove, space heater,
        ecobee, nest, central heating, swamp cooler, panel heater, pool heater, furnace, convector, hvac, ac unit"""),
    "media_player": _listed("""
        tv, sonos, chromecast, soundbar, stereo, record player, apple tv, projector, speaker, home pod, radio, shield,
        roku, echo dot, kitchen display, turntable, amplifier, jukebox, boom box, fire stick, playstation, big screen,
        sound system, homepod mini, nest hub, old television, bluetooth speaker, surround system, karaoke machine"""),
    "sensor": _listed("""
        outdoor thermometer, humidity sensor, rain gauge, power meter, phone battery, water level, air quality,
        solar output, co2 monitor, wind speed, gas meter, freezer temperature, uv index, noise level, soil moisture,
        step counter, fuel tank, barometer, dew point, grid import, pressure gauge, pollen count"""),
    "binary_sensor": _listed("""
        motion detector, mailbox, fridge door, leak sensor, smoke alarm, doorbell, presence sensor, window contact,
        desk sensor, couch sensor, oven door, crib sensor, garage contact, vibration sensor, bed sensor,
        freezer lid, gate contact, hatch, parking spot, litter box"""),
    "input_boolean": _listed("""
        guest mode, vacation mode, sleep mode, party mode, do not disturb, baby mode, eco mode, cinema mode,
        away mode, school holiday, quiet hours, silent mode, cleaning day"""),
    "person": _listed("""
        anna, peter, mom, dad, grandma, emma, lucas, sofia, james, olivia, noah, grandpa, mia, liam, aunt clara,
        david, maria, yusuf, chen, priya, uncle bob, ingrid, mateo, fatima, george, hannah, kwame, leila, oscar,
        babysitter, zoe, nikolai, rosa, tomas, akira, nanny"""),
    "weather": _listed("""
        london, home, paris, new york, berlin, cabin, tokyo, madrid, boston, cape town, oslo, sydney, beach,
        rome, seattle, lisbon, san francisco, vienna, mumbai, dublin, mexico city, work, reykjavik, lake house,
        buenos aires, helsinki"""),
    "lawn_mower": _listed("""
        lawn mower, robot mower, automower, mowbot, grass cutter, shaun, back lawn robot, landroid, turf king,
        bladerunner, meadow, goat"""),
    "vacuum": _listed("""
        roomba, robot vacuum, dusty, roborock, hoover, cleaner bot, dirt devil, rosie, sweeper, mop robot, wall-e,
        dobby, jeeves, deebot, mister clean, cinderella"""),
    "scene": _listed("""
        movie night, good morning, relax, dinner, bedtime, sunset, romantic, bright, party time, focus, reading,
        candlelight, game night, wake up, energize, cosy evening, aurora, spa, brunch, winter glow, thunderstorm,
        date night, siesta, concert, deep sea, halloween"""),
    "script": _listed("""
        leaving home, arrive home, feed the cat, water the plants, lock everything, morning routine, goodnight,
        alarm test, doorbell jingle, blink all, school run, backup, rain check, vacuum everything, dog walk,
        evening rounds, coffee time, guest welcome, panic, reset network"""),
    "button": _listed("""
        restart router, doorbell, gate opener, coffee, identify, find my phone, reboot, feeder, flush, filter reset,
        wake on lan, party, call elevator, self test, snooze"""),
    "zone": _listed("""
        home, work, school, office, gym, park, church, supermarket, university, hospital,
        kindergarten, airport, library, stadium, grandmas house, harbour, cottage, downtown,
        train station, dentist, soccer practice, farm, marina, climbing hall"""),
    "timer_name": _listed("""
        pizza, pasta, egg, laundry, bread, tea, cookies, chicken, workout, rice, nap, homework, potatoes, cake,
        meditation, roast, coffee, parking meter, dough, yoga, lasagna, steak, dishwasher, bath, broccoli, plank,
        soup, sourdough, study break, face mask, piano practice, turkey, quinoa, hair dye, tooth brushing"""),
    "timer_command": _listed("""
        turn off the lights, open the blinds, close the garage door, turn on the coffee maker, lock the front door,
        stop the music, turn off the heater, start the vacuum, play some jazz, turn the tv off, turn on the fan,
        water the garden, turn off the oven, dim the lights, unlock the gate, pause the movie, mute the tv,
        set the thermostat to 20, close the curtains, run the dishwasher, shut down the computer, feed the fish,
        raise the shades, switch off the iron, ring the bell, arm the alarm, lower the awning, boil the kettle,
        drain the pool, turn on the porch light"""),
    "search_query": _listed("""
        the beatles, moonlight sonata, jazz classics, queen, abbey road, taylor swift, morning coffee, rock anthems,
        bach, star wars, lo fi beats, david bowie, thriller, the daily news, sleep sounds, miles davis,
        bohemian rhapsody,
        summer hits, vivaldi four seasons, nirvana, true crime stories, pink floyd, dancing queen, finding nemo,
        rain sounds, adele, country roads, the lion king, workout mix, johnny cash, clair de lune,
        dark side of the moon,
        radiohead, bedtime stories, planet earth, hotel california, billie holiday, white noise, ocean waves,
        christmas carols, fleetwood mac, toy story, history of rome, nina simone, purple rain, the matrix, daft punk,
        songs for a road trip, ella fitzgerald, science weekly, amelie, bob marley, yesterday, kind of blue"""),
}
VALUES["input_button"] = VALUES["button"]

# Where the range that the templates allow is far wider than what anybody says.
RANGES = {"temperature": (14, 30), "timer_hours": (1, 12)}

_WORDS = _listed("""
    zero, one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, thirteen, fourteen, fifteen,
    sixteen, seventeen, eighteen, nineteen, twenty, thirty, forty, fifty, sixty, seventy, eighty, ninety""")


def in_words(number: int) -> str:
    """Return a number from 0 to 100 in words, without hyphens."""
    if number <= 20:
        return _WORDS[number]
    if number == 100:
        return "one hundred"
    tens, units = divmod(number, 10)
    return _WORDS[18 + tens] + (f" {_WORDS[units]}" if units else "")
