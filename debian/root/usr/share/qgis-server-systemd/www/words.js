// SPDX-License-Identifier: GPL-2.0-or-later
// What the page says. "#" is a number.

export const languages = {
  en: {
    heading: "Maps",
    search: "Search",
    order: "Sort by",
    title: "title",
    changed: "last change",
    copy: "Copy address",
    copied: "Copied",
    picture: "Map as a picture: #",
    capabilities: "# capabilities",
    one: "1 map",
    many: "# maps",
    empty: "No map is published here yet.",
    nothing: "No map matches the search.",
    loading: "Loading the list of maps …",
    making: "The list of maps is being made …",
    failed: "The list of maps can't be loaded now. The page will try again.",
  },
  de: {
    heading: "Karten",
    search: "Suche",
    order: "Sortieren nach",
    title: "Titel",
    changed: "letzter Änderung",
    copy: "Adresse kopieren",
    copied: "Kopiert",
    picture: "Karte als Bild: #",
    capabilities: "#-Capabilities",
    one: "1 Karte",
    many: "# Karten",
    empty: "Hier ist noch keine Karte veröffentlicht.",
    nothing: "Keine Karte passt zur Suche.",
    loading: "Die Liste der Karten wird geladen …",
    making: "Die Liste der Karten wird erstellt …",
    failed: "Die Liste der Karten lässt sich gerade nicht laden. Die Seite versucht es erneut.",
  },
  fr: {
    heading: "Cartes",
    search: "Rechercher",
    order: "Trier par",
    title: "titre",
    changed: "dernière modification",
    copy: "Copier l’adresse",
    copied: "Copié",
    picture: "Carte en image : #",
    capabilities: "Capacités #",
    one: "1 carte",
    many: "# cartes",
    empty: "Aucune carte n’est encore publiée ici.",
    nothing: "Aucune carte ne correspond à la recherche.",
    loading: "Chargement de la liste des cartes …",
    making: "La liste des cartes est en cours de préparation …",
    failed: "La liste des cartes ne peut pas être chargée pour l’instant. La page réessaiera.",
  },
};

// The first language of the browser that there are words for.
export function chosen(wanted) {
  const known = wanted.map((tag) => tag.toLowerCase().split("-")[0]);
  return known.find((tag) => Object.hasOwn(languages, tag)) ?? "en";
}
